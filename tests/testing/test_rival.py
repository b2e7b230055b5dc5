"""Races that are lost each time."""

from typing import Any

import pytest
from backends import MARIADB, POSTGRES, Sessions, by_savepoint, heavy, on_sqlite
from models import Author, Employee, Pen, Tag
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

from async_goc import (
    Batch,
    Event,
    GetOrCreator,
    Policy,
    UniqueMixin,
    exceptions,
    get_or_create,
    get_or_create_many,
    update_or_create,
)
from async_goc.testing import race, record, rival, rolled_back

# One driver for each kind of server; the others, and each where little depends on it,
# are heavy.
on_servers = pytest.mark.parametrize(
    "backend",
    [POSTGRES[0], MARIADB[0], *heavy(POSTGRES[1], *MARIADB[1:])],
    indirect=True,
)
on_one = pytest.mark.parametrize("backend", [POSTGRES[0]], indirect=True)
on_one_of_them = pytest.mark.parametrize(
    "backend", [POSTGRES[0], *heavy(MARIADB[0])], indirect=True
)


class Own(DeclarativeBase):
    """Beside the models of other tests."""


class UniqueTag(UniqueMixin, Own):
    __table__ = Tag.__table__


def outcomes(events: list[Event]) -> list[str]:
    return [str(event.outcome) for event in events]


@on_servers
async def test_each_verb_loses_the_race(sessions: Sessions) -> None:
    """The rival comes between the look and the INSERT, and its row is returned."""
    with record() as events:
        theirs = {"name": "a", "colour": "theirs"}
        async with rival(sessions, Tag, **theirs), sessions.begin() as session:
            tag, created = await get_or_create(session, Tag, name="a")
            assert (tag.colour, created) == ("theirs", False)
        async with rival(sessions, Tag, name="b"), sessions.begin() as session:
            how = {"colour": "ours"}
            tag, created = await update_or_create(session, Tag, defaults=how, name="b")
            assert (tag.colour, created) == ("ours", False)
        async with rival(sessions, Tag, name="d"), sessions.begin() as session:
            rows = ["c", "d", "e"]
            found = await get_or_create_many(session, Tag, rows, key="name")
            assert [created for _, created in found] == [True, False, True]
    assert outcomes(events)[:2] == ["lost_race", "lost_race"]
    async with sessions() as session:
        names = await session.scalars(select(Tag.name).order_by(Tag.name))
        assert list(names) == ["a", "b", "c", "d", "e"]


@pytest.mark.heavy
@pytest.mark.parametrize("backend", [POSTGRES[0], MARIADB[0]], indirect=True)
async def test_two_hundred_times(engine: AsyncEngine) -> None:
    """It is no matter of luck."""
    sessions = async_sessionmaker(engine)
    policies = Policy(), Policy(strategy="native")
    with record() as events:
        for number in range(200):
            how: Any = {"name": str(number), "policy": policies[number % 2]}
            coming = rival(sessions, Tag, name=how["name"])
            async with coming, sessions.begin() as session:
                assert (await get_or_create(session, Tag, **how))[1] is False
    assert outcomes(events) == ["lost_race"] * 200


@on_one_of_them
@pytest.mark.parametrize("batch", [None, Batch()])
async def test_creators_lose_it(engine: AsyncEngine, batch: Batch | None) -> None:
    """They go by a session for as long as a rival may come."""
    sessions = async_sessionmaker(engine)
    creator = GetOrCreator(sessions, batch=batch)
    with record() as events:
        for name in ("a", "b"):
            # That a miss is likely makes no difference.
            assert (await creator.get_or_create(Tag, name=f"{name} 0"))[1] is True
            async with rival(sessions, Tag, name=name):
                assert (await creator.get_or_create(Tag, name=name))[1] is False
    assert outcomes(events) == ["created", "lost_race"] * 2


@on_one_of_them
@by_savepoint
async def test_one_of_many_calls_meets_it(sessions: Sessions) -> None:
    """None of the calls that run at the same time creates the row."""

    async def create() -> bool:
        async with sessions.begin() as session:
            return (await get_or_create(session, Tag, name="a"))[1]

    with record() as events:
        async with rival(sessions, Tag, name="a"):
            assert await race(create, 5) == [False] * 5
    assert outcomes(events).count("lost_race") == 1


@on_one
@by_savepoint
async def test_it_waits_for_its_own_row(sessions: Sessions) -> None:
    """INSERTs of other rows, and of other models, pass.

    Fails without `_keys` in `_Rival._is_alike`.
    """
    with record() as events:
        async with (
            rival(sessions, Tag, name="b", slug="b"),
            sessions.begin() as session,
        ):
            await get_or_create(session, Author, name="b")
            await get_or_create(session, Tag, name="a", defaults={"slug": "a"})
            session.add(Tag(name="c"))
            await session.flush()
            await get_or_create(session, Tag, name="b")
    assert outcomes(events) == ["created", "created", "lost_race"]


@on_one
@by_savepoint
async def test_rows_of_several_tables_and_parents(sessions: Sessions) -> None:
    """A row may span tables, and refer to an instance of any session's."""
    async with sessions.begin() as session:
        author, _ = await get_or_create(session, Author, name="a")
    async with sessions.begin() as session:
        author = await session.merge(author)
        async with rival(sessions, Pen, author=author, colour="red", length=7):
            pen, created = await get_or_create(
                session, Pen, author=author, colour="red"
            )
        assert (pen.length, created) == (7, False)
        async with rival(sessions, Employee, name="x", badge=1):
            how = {"name": "y"}
            _, created = await get_or_create(session, Employee, badge=1, defaults=how)
        assert created is False


@on_one
async def test_unique_objects_and_work_that_is_undone(engine: AsyncEngine) -> None:
    """A call loses it in a session of rolled_back() as well, where one can commit."""
    sessions = async_sessionmaker(engine)
    with record() as events:
        async with rolled_back(engine) as undone, undone() as session:
            async with rival(sessions, Tag, name="a", colour="theirs"):
                tag = await UniqueTag.as_unique(session, name="a")
            assert tag.colour == "theirs"
    assert outcomes(events) == ["lost_race"]


@on_one
@by_savepoint
async def test_other_ways_to_insert(sessions: Sessions) -> None:
    """What is no call meets it as well, and so shows what it loses by that."""
    async with sessions() as session:
        session.add(Tag(name="a"))
        with pytest.raises(IntegrityError):
            async with rival(sessions, Tag, name="a"):
                await session.commit()


@on_one
@by_savepoint
async def test_one_that_does_not_come(sessions: Sessions) -> None:
    """That is an error, unless the block has ended by another one."""
    with pytest.raises(AssertionError, match=r"the rival's Tag \(name\) has not come"):
        async with rival(sessions, Tag, name="a"):
            pass
    with pytest.raises(LookupError):
        async with rival(sessions, Tag, name="a"):
            raise LookupError


@on_one
@by_savepoint
async def test_one_that_fails(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is not taken for one of the call's, and names no values."""
    async with sessions() as session:
        with pytest.raises(AssertionError, match="could not be committed") as raised:
            async with rival(sessions, Tag, name="secret", colour="bad"):
                await get_or_create(session, Tag, name="secret")
        assert isinstance(raised.value.__cause__, IntegrityError)
        assert "secret" not in str(raised.value)
        # The transaction goes on with the savepoint's strategy, as after any error.
        await session.rollback()
        # The rival would wait for the first INSERT of the call's transaction, which
        # waits for it.
        monkeypatch.setattr("async_goc.testing.rivals._PATIENCE", 0.1)
        session.add(Tag(name="a", slug="a"))
        await session.flush()
        with pytest.raises(AssertionError, match=r"waited 0\.1 s for a lock"):
            async with rival(sessions, Tag, name="b", slug="a"):
                await get_or_create(session, Tag, name="b")


@on_one
@by_savepoint
async def test_wrong_arguments(sessions: Sessions, engine: AsyncEngine) -> None:
    """Unknown names, and sessions that are all on one connection, are refused."""
    with pytest.raises(exceptions.UnknownFieldError, match="nmae"):
        async with rival(sessions, Tag, nmae="a"):
            pass
    async with rolled_back(engine) as joined:
        with pytest.raises(TypeError, match="these sessions share one connection"):
            async with rival(joined, Tag, name="a"):
                pass


@on_sqlite
@by_savepoint
async def test_on_sqlite_it_comes_first(sessions: Sessions) -> None:
    """The call finds the row; inside a transaction, the error says that it is one.

    Fails without `is_inside` in `_Rival.come_first`.
    """
    with record() as events:
        async with rival(sessions, Tag, name="a"), sessions.begin() as session:
            assert (await get_or_create(session, Tag, name="a"))[1] is False
            with pytest.raises(AssertionError, match="a transaction has begun, and"):
                async with rival(sessions, Tag, name="b"):
                    pass
    assert outcomes(events) == ["hit"]


@on_sqlite
async def test_on_an_sqlite_engine_as_it_is(url: str) -> None:
    """SQLite itself says that the transaction has begun."""
    engine = create_async_engine(url, connect_args={"timeout": 0})
    sessions = async_sessionmaker(engine)
    async with rival(sessions, Tag, name="a"), sessions.begin() as session:
        assert (await get_or_create(session, Tag, name="a"))[1] is False
        session.add(Tag(name="b"))
        await session.flush()
        with pytest.raises(AssertionError, match="could not be committed"):
            async with rival(sessions, Tag, name="c"):
                pass
    await engine.dispose()
