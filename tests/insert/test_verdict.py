"""Conflicts on PostgreSQL: what a snapshot cannot see, what a model does not know."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from backends import POSTGRES, by_savepoint
from models import Cat, Employee, Loose, Node, Person, Place, Tag
from rivals import after_rival, on_lost
from sqlalchemy import delete, event, func, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import with_loader_criteria
from sqlalchemy.util import await_only

from async_goc import Event, Policy, get_or_create
from async_goc.exceptions import SnapshotConflictError

pytestmark = pytest.mark.parametrize("backend", POSTGRES, indirect=True)
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
    """A rival's row holds part of the lookup, and nobody here can see the rest."""
    rival = after_rival(engine, Tag(name="red", colour="f00"))
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(SnapshotConflictError):
            await get_or_create(session, Tag, name="red", colour="f00", defaults=rival)


@snapshots
async def test_single_table_inheritance(engine: AsyncEngine, level: str) -> None:
    """A subclass looks among its own rows, and the same rule holds."""
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


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_row_of_the_parent_class(engine: AsyncEngine, level: str) -> None:
    """Joined inheritance: a plain Person holds the name; no attempt would find it."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Person(name="Ann"))
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(IntegrityError):
            await get_or_create(session, Employee, name="Ann", defaults={"badge": 1})


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_key_of_the_parent_class(engine: AsyncEngine, level: str) -> None:
    """Joined inheritance: the table of the violated key is asked."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Person(id=-1, name="Ann"))
    async with AsyncSession(at(engine, level)) as session:
        values = {"badge": 1, "name": "Eve"}
        with pytest.raises(IntegrityError):
            await get_or_create(session, Employee, id=-1, defaults=values)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize(
    ("name", "defaults"),
    [("Taken", {}), ("root", {"children": ["taken"]})],
    ids=["validator", "child"],
)
async def test_conflict_on_what_was_not_looked_up(
    engine: AsyncEngine, level: str, name: str, defaults: dict[str, Any]
) -> None:
    """A value that the model has changed, or a child's: no rival, and no retry."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Node(name="taken"))
    children = [Node(name=child) for child in defaults.get("children", ())]
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(IntegrityError):
            await get_or_create(
                session, Node, name=name, defaults={"children": children}
            )


async def test_rival_of_a_factory_that_flushes_vanishes(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """Also a factory that inserts by itself gets its second attempt."""
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


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_row_that_the_session_filters_out(
    engine: AsyncEngine, level: str
) -> None:
    """A soft-deleted row holds the key: the database's error, at once."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Tag(name="red", colour="deleted"))
    async with AsyncSession(at(engine, level)) as session:

        @event.listens_for(session.sync_session, "do_orm_execute")
        def _hide(state: Any) -> None:
            hidden = with_loader_criteria(Tag, Tag.colour.is_(None))
            state.statement = state.statement.options(hidden)

        with pytest.raises(IntegrityError):
            await get_or_create(session, Tag, name="red")


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


@pytest.fixture
async def quota(engine: AsyncEngine) -> AsyncIterator[None]:
    """A trigger that raises unique_violation, with a constraint of its own making."""
    function = (
        "CREATE FUNCTION quota() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE unique_violation USING CONSTRAINT = 'quota', TABLE = 'tag'; END $$"
    )
    trigger = "CREATE TRIGGER quota BEFORE INSERT ON tag EXECUTE FUNCTION quota()"
    async with engine.begin() as connection:
        await connection.execute(text(function))
        await connection.execute(text(trigger))
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP FUNCTION quota CASCADE"))


@pytest.mark.usefixtures("quota")
async def test_violation_that_a_trigger_makes_up(session: AsyncSession) -> None:
    """A constraint that nobody knows is the database's own error."""
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Tag, name="red")
    assert "violated quota" in raised.value.__notes__[0]


@pytest.fixture
async def own_indexes(engine: AsyncEngine) -> AsyncIterator[None]:
    """Unique indexes that the model does not know: columns, an expression, partial."""
    indexes = {
        "own": "(made_at)",
        "low": "(lower(name))",
        "part": "(made_at) WHERE name LIKE 'p%'",
    }
    async with engine.begin() as connection:
        for name, what in indexes.items():
            statement = f"CREATE UNIQUE INDEX {name} ON loose {what}"
            await connection.execute(text(statement))
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP INDEX IF EXISTS own, low, part"))


@pytest.mark.usefixtures("own_indexes")
async def test_constraint_that_the_model_does_not_know(session: AsyncSession) -> None:
    """The error names an index of the database's own."""
    row, _ = await get_or_create(session, Loose, name="x")
    other = row.made_at + timedelta(days=1)
    for name, time, index in (("y", row.made_at, "own"), ("X", other, "low")):
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(session, Loose, name=name, defaults={"made_at": time})
        assert f"violated {index}" in raised.value.__notes__[0]


@pytest.mark.usefixtures("own_indexes")
async def test_index_that_the_model_does_not_know_is_more_than_its_columns(
    session: AsyncSession,
) -> None:
    """A partial index is not taken for a constraint on all rows."""
    await session.execute(text("DROP INDEX own"))
    time = datetime(2020, 1, 1)  # noqa: DTZ001
    await get_or_create(session, Loose, name="p1", defaults={"made_at": time})
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Loose, Loose.name != "p1", made_at=time, name="p2")
    assert "violated part" in raised.value.__notes__[0]
    await session.commit()


@pytest.mark.usefixtures("own_indexes")
async def test_rival_of_an_unknown_constraint_vanishes(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The database says what its index covers: the lookup; so another attempt."""
    time = datetime(2020, 1, 1)  # noqa: DTZ001

    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM loose"))

    rival = after_rival(engine, Loose(name="a", made_at=time), {"name": "b"})
    async with on_lost(engine, vanish):
        row, created = await get_or_create(
            session,
            Loose,
            made_at=time,
            defaults=rival,
            policy=Policy(missing_constraint="ignore"),
        )
    assert (row.name, created) == ("b", True)


@pytest.fixture
async def trigger(engine: AsyncEngine) -> AsyncIterator[None]:
    """Each new tag makes a loose row of the same name, by a trigger."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "INSERT INTO loose (name) VALUES (new.name); RETURN new; END $$"
            )
        )
        await connection.execute(
            text(
                "CREATE TRIGGER copy AFTER INSERT ON tag "
                "FOR EACH ROW EXECUTE FUNCTION copy()"
            )
        )
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER copy ON tag"))
        await connection.execute(text("DROP FUNCTION copy"))


@pytest.mark.usefixtures("trigger")
async def test_conflict_in_another_table(session: AsyncSession) -> None:
    """A conflict that a trigger meets in another table is not ours."""
    session.add(Loose(name="red"))
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Tag, name="red")
    assert "loose_name_key" in raised.value.__notes__[0]
