"""Sessions whose work is undone."""

from typing import Any

import pytest
from backends import BACKENDS, MARIADB, heavy, on_sqlite
from models import Tag
from sqlalchemy import event, func, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from async_goc import (
    GetOrCreator,
    KeyedLocks,
    Policy,
    get_or_create,
    run_in_transaction,
    sqlite,
)
from async_goc.testing import assert_nothing_held, race, rolled_back

pytestmark = pytest.mark.one_driver
on_all = pytest.mark.parametrize(
    "backend", [*BACKENDS, MARIADB[0], *heavy(*MARIADB[1:])], indirect=True
)


async def count(engine: AsyncEngine) -> int:
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count(Tag.id))) or 0


@on_all
async def test_all_is_undone(engine: AsyncEngine) -> None:
    """Commits of the test's own, and the calls', go; its rollbacks go no further."""
    for _ in range(2):
        async with rolled_back(engine) as sessions:
            async with sessions.begin() as session:
                tag, created = await get_or_create(session, Tag, name="a")
                assert created
            async with sessions() as session:
                assert (await get_or_create(session, Tag, name="a"))[1] is False
                await get_or_create(session, Tag, name="b")
                await session.rollback()
                assert (await get_or_create(session, Tag, name="b"))[1] is True
                await session.commit()
            assert tag.name == "a"  # Its commit has not expired it.
    assert await count(engine) == 0


async def test_one_inside_another(engine: AsyncEngine) -> None:
    """A program's session may begin and end inside the test's."""
    async with rolled_back(engine) as sessions, sessions() as session:
        session.add(Tag(name="a"))
        await session.flush()
        async with sessions.begin() as inner:
            assert (await get_or_create(inner, Tag, name="a"))[1] is False
            assert (await get_or_create(inner, Tag, name="b"))[1] is True
        await session.commit()
        names = await session.scalars(select(Tag.name).order_by(Tag.name))
        assert list(names) == ["a", "b"]
    assert await count(engine) == 0


@pytest.mark.filterwarnings("ignore:nested transaction already deassociated")
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_neither(engine: AsyncEngine, end: str) -> None:
    """Two sessions that overlap are told so, and what they did is undone.

    Fails without `_others_inside` in `Nesting.check`, and without `_lost` in
    `Nesting.end`.
    """
    async with rolled_back(engine) as sessions:
        one, two = sessions(), sessions()
        for session, name in ((one, "a"), (two, "b")):
            await get_or_create(session, Tag, name=name)
        refused = one
        if end == "rollback":
            await one.rollback()
            refused = two
        with pytest.raises(InvalidRequestError, match="has begun later, and has not"):
            await refused.commit()
    assert_nothing_held()
    assert await count(engine) == 0


async def test_creators_and_repeated_transactions(engine: AsyncEngine) -> None:
    """What commits by itself is undone, too."""
    async with rolled_back(engine) as sessions:
        creator = GetOrCreator(sessions)
        assert (await creator.get_or_create(Tag, name="a"))[1] is True
        assert (await creator.get_or_create(Tag, name="a"))[1] is False

        async def work(session: AsyncSession) -> bool:
            return (await get_or_create(session, Tag, name="b"))[1]

        assert await run_in_transaction(sessions, work) is True
    assert await count(engine) == 0


@on_sqlite
async def test_what_is_left_open(engine: AsyncEngine, locks: KeyedLocks) -> None:
    """It is closed, and so holds no key, also after an exception.

    Fails without `close` in `_close`.
    """
    policy = Policy(locks=locks)

    async def leave_open() -> None:
        async with rolled_back(engine) as sessions:
            opened.extend([sessions(), sessions()])
            for session, name in zip(opened, "ab", strict=True):
                await get_or_create(session, Tag, name=name, policy=policy)
            assert locks.statistics().held == 2
            raise LookupError

    opened: list[AsyncSession] = []
    with pytest.raises(LookupError):
        await leave_open()
    assert not any(session.in_transaction() for session in opened)
    assert_nothing_held()


async def test_rows_that_were_undone_are_not_known(
    engine: AsyncEngine, locks: KeyedLocks
) -> None:
    """Their keys are not remembered as those of rows that exist: calls queue first."""
    policy = Policy(locks=locks)
    async with rolled_back(engine) as sessions, sessions.begin() as session:
        await get_or_create(session, Tag, name="a", policy=policy)
    assert "0 remembered" in repr(locks)

    async def create() -> bool:
        async with AsyncSession(engine) as session, session.begin():
            return (await get_or_create(session, Tag, name="a", policy=policy))[1]

    assert sum(map(int, await race(create, 5))) == 1
    assert "1 remembered" in repr(locks)


AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}


@on_all
async def test_engines_in_autocommit_are_refused(url: str) -> None:
    """The rollback would undo nothing, and the error says why."""
    engine = create_async_engine(url, **AUTOCOMMIT)
    copies = [engine, create_async_engine(url).execution_options(**AUTOCOMMIT)]
    for each in copies:
        with pytest.raises(TypeError, match="is in AUTOCOMMIT, where each statement"):
            async with rolled_back(each):
                pass
        await each.dispose()


@on_sqlite
async def test_sqlite_engines_that_begin_nothing_are_refused(url: str) -> None:
    """The error names what makes the engine begin; after it, all is undone."""
    engine = create_async_engine(url)
    with pytest.raises(TypeError, match=r"sqlite\.configure\(engine\)"):
        async with rolled_back(engine):
            pass
    sqlite.configure(engine)
    await engine.dispose()
    async with rolled_back(engine) as sessions, sessions.begin() as session:
        await get_or_create(session, Tag, name="a")
    assert await count(engine) == 0
    await engine.dispose()


class CountingSession(Session):
    def number(self) -> int:
        return self.query(Tag).count()


class OwnSession(AsyncSession):
    """As SQLModel's: it calls what only its own synchronous session has."""

    sync_session_class = CountingSession

    async def number(self) -> int:
        return await self.run_sync(lambda session: session.number())


async def test_sessions_of_the_programs_own_class(engine: AsyncEngine) -> None:
    """They have its methods, and their commits are undone as all others."""
    async with rolled_back(engine, class_=OwnSession) as sessions:
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name="a")
        async with sessions() as session:
            assert await session.number() == 1
            async with sessions() as other:
                await other.number()
                with pytest.raises(InvalidRequestError, match="has begun later"):
                    await session.commit()
    assert await count(engine) == 0


@on_sqlite
async def test_sqlite_engines_that_begin_by_a_listener(url: str) -> None:
    """SQLAlchemy's own recipe begins real transactions, which is enough."""
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "connect")
    def leave_alone(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    async with rolled_back(engine) as sessions, sessions.begin() as session:
        await get_or_create(session, Tag, name="a")
    assert await count(engine) == 0
    await engine.dispose()


async def test_wrong_arguments() -> None:
    """A connection is refused, as are sessions."""
    wrong: Any = async_sessionmaker()
    with pytest.raises(TypeError, match="engine is of type async_sessionmaker"):
        async with rolled_back(wrong):
            pass
