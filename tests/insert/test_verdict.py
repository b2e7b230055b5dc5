"""Conflicts on PostgreSQL: what a snapshot cannot see, what a model does not know."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backends import POSTGRES, by_savepoint
from models import Cat, Loose, Place, Tag
from rivals import after_rival, on_lost
from sqlalchemy import delete, event, func
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

from async_goc import Event, Policy, get_or_create
from async_goc.exceptions import SnapshotConflictError

pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
]
snapshots = pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
levels = pytest.mark.parametrize("rival_level", ["READ COMMITTED", "SERIALIZABLE"])


def at(engine: AsyncEngine, level: str) -> AsyncEngine:
    return engine.execution_options(isolation_level=level)


@snapshots
@levels
async def test_lost_race(engine: AsyncEngine, level: str, rival_level: str) -> None:
    """The rival's row is invisible: a clear error at once, with its cause."""
    events: list[Event] = []
    rival = after_rival(at(engine, rival_level), Tag(name="red"))
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(SnapshotConflictError, match="whole transaction") as raised:
            await get_or_create(
                session,
                Tag,
                name="red",
                defaults=rival,
                policy=Policy(observer=events.append),
            )
        assert isinstance(raised.value.__cause__, DBAPIError)
        assert [event.attempts for event in events] == [1]
        await session.rollback()
        tag, created = await get_or_create(session, Tag, name="red")
        assert (tag.name, created) == ("red", False)


async def test_serialization_failure(engine: AsyncEngine) -> None:
    """Two SERIALIZABLE calls: PostgreSQL itself asks for the transaction again."""
    serializable = at(engine, "SERIALIZABLE")

    async def rival() -> dict[str, Any]:
        async with AsyncSession(serializable) as other, other.begin():
            await get_or_create(other, Tag, name="red")
        return {}

    async with AsyncSession(serializable) as session:
        with pytest.raises(SnapshotConflictError) as raised:
            await get_or_create(session, Tag, name="red", defaults=rival)
        assert raised.value.__cause__.orig.sqlstate == "40001"


@snapshots
async def test_conflict_with_a_visible_row(engine: AsyncEngine, level: str) -> None:
    """A row that can be seen, but is not the one asked for, is no lost race."""
    async with AsyncSession(engine) as session, session.begin():
        session.add_all([Tag(name="red", slug="r", colour="f00"), Loose(name="x")])
    async with AsyncSession(at(engine, level)) as session:
        lookups: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"name": "red", "colour": "900"}, {}),
            ({"name": "blue"}, {"slug": "r"}),
        ]
        for lookup, defaults in lookups:
            with pytest.raises(IntegrityError):
                await get_or_create(session, Tag, defaults=defaults, **lookup)


@snapshots
async def test_narrower_constraint_lost_to_a_rival(
    engine: AsyncEngine, level: str
) -> None:
    """A rival's row holds part of the lookup, and the rest cannot be seen here."""
    rival = after_rival(engine, Tag(name="red", colour="f00"))
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(SnapshotConflictError):
            await get_or_create(session, Tag, name="red", colour="f00", defaults=rival)


@snapshots
async def test_single_table_inheritance(engine: AsyncEngine, level: str) -> None:
    """A subclass sees only its own rows; the rival's is invisible all the same."""
    rival = after_rival(engine, Cat(name="Tom"))
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(SnapshotConflictError):
            await get_or_create(session, Cat, name="Tom", defaults=rival)


@asynccontextmanager
async def vanishing(engine: AsyncEngine, table: Any) -> AsyncIterator[None]:
    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(table))

    async with on_lost(engine, vanish):
        yield


@pytest.mark.parametrize(
    ("model", "values"),
    [(Tag, {"name": "x", "colour": "f00"}), (Cat, {"name": "x"})],
    ids=["narrower constraint", "subclass"],
)
async def test_vanished_rival(
    engine: AsyncEngine,
    session: AsyncSession,
    model: type[Any],
    values: dict[str, Any],
) -> None:
    """A lookup that asks for more than the key gets its second attempt as well."""
    rival = after_rival(engine, model(**values))
    async with vanishing(engine, model.__table__):
        _, created = await get_or_create(session, model, defaults=rival, **values)
    assert created


async def test_rival_of_a_factory_that_flushes_vanishes(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A factory that inserts by itself gets its second attempt as well."""
    rival = after_rival(engine, Tag(name="red"))

    async def factory(**values: Any) -> Tag:
        tag = Tag(**values)
        session.add(tag)
        await session.flush()
        return tag

    async with vanishing(engine, Tag.__table__):
        _, created = await get_or_create(
            session, Tag, name="red", defaults=rival, factory=factory
        )
    assert created


async def test_rival_of_an_expression_index_vanishes(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The table is asked by the criterion itself."""
    values = {"email": "A@b.c", "x": 1}
    rival = after_rival(engine, Place(email="a@B.c", x=2), values)
    async with vanishing(engine, Place.__table__):
        _, created = await get_or_create(
            session, Place, func.lower(Place.email) == "a@b.c", defaults=rival
        )
    assert created


@by_savepoint
async def test_rival_that_comes_back(engine: AsyncEngine, session: Any) -> None:
    """A row that is deleted, and there again when we ask the table, is the row."""
    looks: list[str] = []

    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(Tag))

    async def come_back() -> None:
        async with AsyncSession(engine) as rival, rival.begin():
            rival.add(Tag(name="red", colour="second"))

    @event.listens_for(session.sync_session, "do_orm_execute")
    def _after_the_look(_: Any) -> None:
        looks.append("look")

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if len(looks) == 2 and "anon_1" in statement and "tag.name" in statement:
            looks.append("question")
            await_only(come_back())

    rival = after_rival(engine, Tag(name="red", colour="first"))
    event.listen(engine.sync_engine, "before_cursor_execute", before)
    async with on_lost(engine, vanish):
        tag, created = await get_or_create(session, Tag, name="red", defaults=rival)
    event.remove(engine.sync_engine, "before_cursor_execute", before)
    assert looks == ["look", "look", "question", "look"]
    assert (tag.colour, created) == ("second", False)


async def test_serialization_failure_of_the_factory(engine: AsyncEngine) -> None:
    """Another statement's serialization failure comes through as it is."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Loose(id=1, name="x"))
    async with AsyncSession(at(engine, "REPEATABLE READ")) as session:
        row = await session.get_one(Loose, 1)

        async def factory(**values: Any) -> Tag:
            async with AsyncSession(engine) as other, other.begin():
                (await other.get_one(Loose, 1)).name = "y"
            row.name = "z"
            return Tag(**values)

        with pytest.raises(DBAPIError) as raised:
            await get_or_create(session, Tag, name="red", factory=factory)
        assert raised.value.orig.sqlstate == "40001"
        assert row.name == "x"
