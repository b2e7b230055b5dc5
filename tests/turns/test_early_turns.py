"""A turn that is taken before the call's objects are made is a turn like any other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any

import pytest
from backends import Sessions, on_postgres
from models import Tag
from sqlalchemy import event
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.util import await_only
from waiting import until

from async_goc import KeyedLocks, Policy, get_or_create
from async_goc.exceptions import UnknownFieldError

pytestmark = pytest.mark.one_driver


@pytest.fixture
async def locks(sessions: Sessions) -> KeyedLocks:
    """A registry that has met the engine, and so knows how keys of it are made."""
    locks = KeyedLocks(known_keys=0)
    async with sessions.begin() as session:
        await get_or_create(session, Tag, name="old", policy=Policy(locks=locks))
    return locks


def request(sessions: Sessions, name: str, policy: Policy) -> asyncio.Task[bool]:
    """Ask for the row in a session and a task of its own."""

    async def ask() -> bool:
        async with sessions.begin() as session:
            return (await get_or_create(session, Tag, name=name, policy=policy))[1]

    return asyncio.create_task(ask(), context=Context())


def pausing(engine: AsyncEngine, moment: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold up the next statement; return what tells that it is, and what ends that."""
    is_paused, may_go_on = asyncio.Event(), asyncio.Event()

    def pause(*_: Any) -> None:
        is_paused.set()
        await_only(may_go_on.wait())

    event.listen(engine.sync_engine, moment, pause, once=True)
    return is_paused, may_go_on


@on_postgres
async def test_found(
    engine: AsyncEngine, sessions: Sessions, locks: KeyedLocks
) -> None:
    """Whoever waits for a look is told of the row, and looks without the key.

    Fails without `release` in `EarlyTurn.look`.
    """
    policy = Policy(locks=locks)
    is_paused, may_go_on = pausing(engine, "before_cursor_execute")
    first = request(sessions, "old", policy)
    await is_paused.wait()
    others = [request(sessions, "old", policy) for _ in range(3)]
    await until(lambda: locks.statistics().waiting == 3)
    may_go_on.set()
    assert await asyncio.gather(first, *others) == [False] * 4
    after = locks.statistics()
    assert (after.held, after.acquired) == (0, 2)  # One to make "old".


def fail(_: asyncio.Task[bool], engine: AsyncEngine) -> None:
    def refuse(*_: Any) -> None:
        raise ZeroDivisionError

    event.listen(engine.sync_engine, "after_cursor_execute", refuse, once=True)


def cancel(task: asyncio.Task[bool], _: AsyncEngine) -> None:
    task.cancel()


@pytest.mark.parametrize("end", [fail, cancel])
@on_postgres
async def test_failed(
    engine: AsyncEngine,
    sessions: Sessions,
    locks: KeyedLocks,
    end: Callable[[asyncio.Task[bool], AsyncEngine], None],
) -> None:
    """A look that fails lets the next one look, and insert.

    Fails without `give_up` in `get_or_create`.
    """
    policy = Policy(locks=locks)
    is_paused, may_go_on = pausing(engine, "before_cursor_execute")
    first = request(sessions, "new", policy)
    await is_paused.wait()
    second = request(sessions, "new", policy)
    await until(lambda: locks.statistics().waiting == 1)
    end(first, engine)
    may_go_on.set()
    with pytest.raises((ZeroDivisionError, asyncio.CancelledError)):
        await first
    assert await second
    assert locks.statistics().held == 0


@on_postgres
async def test_failed_after_the_look(
    engine: AsyncEngine, sessions: Sessions, locks: KeyedLocks
) -> None:
    """The call may fail where the look has found no row, and keeps no key then.

    Fails without `give_up` in `get_or_create`.
    """
    policy, defaults = Policy(locks=locks), dict[str, Any]()
    is_paused, may_go_on = pausing(engine, "before_cursor_execute")
    async with sessions() as session:
        call = get_or_create(session, Tag, name="new", defaults=defaults, policy=policy)
        task = asyncio.create_task(call)
        await is_paused.wait()
        defaults["unknown"] = 1
        may_go_on.set()
        with pytest.raises(UnknownFieldError):
            await task
        assert locks.statistics().held == 0


@pytest.fixture
async def busy(engine: AsyncEngine) -> AsyncIterator[tuple[Sessions, AsyncSession]]:
    """Sessions of a pool of one connection, and the session that has that one."""
    small = create_async_engine(
        engine.url, pool_size=1, max_overflow=0, pool_timeout=None
    )
    # Keys are of a dialect, and known as soon as one has been made.
    small.sync_engine.dialect = engine.sync_engine.dialect
    sessions = async_sessionmaker(small)
    async with sessions() as session:
        await session.connection()
        yield sessions, session
    await small.dispose()


@on_postgres
async def test_closed(busy: tuple[Sessions, AsyncSession], locks: KeyedLocks) -> None:
    """The collector closes a look at any time: its key is released by the loop, later.

    Fails without `run_after` in `EarlyTurn.give_up`.
    """
    sessions, _ = busy
    async with sessions() as session:
        call = get_or_create(session, Tag, name="new", policy=Policy(locks=locks))
        call.send(None)  # It waits for a connection.
        call.close()
        assert locks.statistics().held == 1
        await until(lambda: not locks.statistics().held)


@pytest.mark.parametrize("commits", [True, False])
@on_postgres
async def test_taken_by_a_higher_rank(
    busy: tuple[Sessions, AsyncSession], locks: KeyedLocks, *, commits: bool
) -> None:
    """A call that has a connection does not wait for a look that needs one.

    Fails without `rank` in `Queues.take`: it hangs.
    """
    policy = Policy(locks=locks, wait_timeout=None)
    sessions, session = busy
    other = request(sessions, "new", policy)
    await until(lambda: locks.statistics().held)
    async with asyncio.timeout(10):
        assert (await get_or_create(session, Tag, name="new", policy=policy))[1]
        await (session.commit() if commits else session.rollback())
        assert await other is not commits
    assert locks.statistics().held == 0


@on_postgres
async def test_overtaken(
    engine: AsyncEngine, sessions: Sessions, locks: KeyedLocks
) -> None:
    """A look may take so long that another call has the key, and the row, meanwhile.

    Fails without `scout` in `Holders.hand_over`.
    """
    is_paused, may_go_on = pausing(engine, "after_cursor_execute")
    first = request(sessions, "new", Policy(locks=locks))
    await is_paused.wait()
    async with sessions.begin() as session:
        brief = Policy(locks=locks, wait_timeout=0)
        _, created = await get_or_create(session, Tag, name="new", policy=brief)
        assert created
        may_go_on.set()
        await until(lambda: locks.statistics().held == 1)
    assert not await first
    assert locks.statistics().held == 0
    assert not locks.queues()._lines


@on_postgres
async def test_listener_that_asks_for_the_same(
    engine: AsyncEngine, sessions: Sessions, locks: KeyedLocks
) -> None:
    """A call that a listener makes in a look does not wait for that look.

    Fails without `current_task` in `Queues._is_cycle`.
    """
    policy, inner = Policy(locks=locks, wait_timeout=None), list[bool]()

    def ask_too(*_: Any) -> None:
        async def ask() -> bool:
            async with sessions.begin() as session:
                return (await get_or_create(session, Tag, name="new", policy=policy))[1]

        work: Awaitable[bool] = ask()
        inner.append(await_only(work))

    event.listen(engine.sync_engine, "before_cursor_execute", ask_too, once=True)
    async with asyncio.timeout(10):
        assert not await request(sessions, "new", policy)
    assert inner == [True]
