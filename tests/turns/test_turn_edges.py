"""What a call in the queue may meet, beside rivals."""

import asyncio
import gc
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest
from backends import Sessions, by_savepoint, on_postgres
from models import Place, Tag
from rivals import after_rival
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from waiting import Clock, until

from async_goc import (
    KeyedLocks,
    Policy,
    exceptions,
    get_or_create,
)
from async_goc._locks.owner import Owner

pytestmark = pytest.mark.one_driver


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
async def test_defaults_that_end_the_transaction(
    session: AsyncSession, policy: Policy, locks: KeyedLocks, end: str
) -> None:
    """What the call then creates is held, and let go, by the next transaction.

    Fails without `_find_owner` in `Turn.created`.
    """

    async def ending() -> Mapping[str, Any]:
        await getattr(session, end)()
        return {}

    await get_or_create(session, Tag, name="before", policy=policy)
    await get_or_create(session, Tag, name="x", defaults=ending, policy=policy)
    assert locks.statistics().held == 1
    await session.commit()
    assert locks.statistics().held == 0


async def test_another_session_in_the_defaults(
    engine: AsyncEngine, sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """A call in the defaults does not wait for the call that waits for it.

    Fails without `around` in `Turn._wait`.
    """
    if engine.dialect.name == "sqlite":
        # On a configured one, the database itself has one writer at a time.
        engine = create_async_engine(engine.url)
        sessions = async_sessionmaker(engine)

    async def colour() -> str:
        async with sessions.begin() as other:
            _, created = await get_or_create(other, Tag, name="x", policy=policy)
            assert created
        return "blue"

    async with asyncio.timeout(5), sessions.begin() as session:
        _, created = await get_or_create(
            session, Tag, name="x", defaults={"colour": colour}, policy=policy
        )
    assert not created
    assert locks.statistics().deadlocks_avoided == 1
    assert locks.statistics().held == 0
    await engine.dispose()


@on_postgres
@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning")
async def test_a_call_that_is_collected(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Wherever the collector runs, the key is released by the loop.

    Fails without `run_after` in `Turn.__exit__`: it hangs.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # It refuses what another thread does.
    loop.set_exception_handler(lambda *_: None)  # A task was destroyed.

    is_suspended = asyncio.Event()

    async def nothing_comes() -> str:
        is_suspended.set()
        return await loop.create_future()

    async def lead(session: AsyncSession) -> None:
        defaults = {"colour": nothing_comes}
        await get_or_create(session, Tag, name="x", defaults=defaults, policy=policy)

    async with sessions() as leader, sessions() as follower:
        task = asyncio.create_task(lead(leader))
        await is_suspended.wait()
        call = asyncio.create_task(
            get_or_create(follower, Tag, name="x", policy=policy)
        )
        await until(lambda: locks.statistics().waiting)
        del task
        await asyncio.to_thread(gc.collect)
        async with asyncio.timeout(5):
            _, created = await call
        assert created
        await follower.rollback()


class Unhashable(str):
    """A string that defines how it compares, and so has no hash."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]


async def test_values_without_a_hash(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """A value without a hash has the key of the plain value that it stands for."""
    _, created = await get_or_create(session, Tag, name=Unhashable("x"), policy=policy)
    assert created
    [key] = locks.queues()._holders
    assert (key[0].columns, key[1]) == (("name",), ("x",))
    assert type(key[1][0]) is str


@on_postgres
async def test_the_log_has_no_values(
    sessions: Sessions, policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names an expression without the values in it."""
    brief = replace(policy, wait_timeout=0)
    looks = func.concat(func.lower(Place.email), "secret") == "xsecret"
    async with sessions() as one, sessions() as other:
        lax = replace(brief, missing_constraint="ignore")
        await get_or_create(one, Place, looks, defaults={"x": 1}, policy=lax)
        await get_or_create(other, Place, looks, defaults={"x": 2}, policy=lax)
        await one.rollback()
        await other.rollback()
    with caplog.at_level(logging.WARNING):
        [record] = caplog.records
    assert "Place (an expression)" in record.getMessage()
    assert "secret" not in record.getMessage()


@on_postgres
async def test_a_lost_race_tells_all_who_wait(
    engine: AsyncEngine, sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """The rival's row is there: they need not come one after the other.

    Fails without `lost` in `find_or_insert`.
    """
    rival = after_rival(engine, Tag(name="x"))

    async def defaults() -> Mapping[str, Any]:
        await until(lambda: locks.statistics().waiting == 4)
        return await rival()

    async def request() -> bool:
        async with sessions.begin() as session:
            _, created = await get_or_create(
                session, Tag, name="x", defaults=defaults, policy=policy
            )
        return created

    assert not any(await asyncio.gather(*(request() for _ in range(5))))
    assert locks.statistics().acquired == 1


class Stranger(Owner):
    """One who takes a key, and keeps it."""

    def is_alive(self) -> bool:
        return True

    def rank(self) -> int:
        return 1

    def is_executing(self) -> bool:
        return False

    def is_in_line(self, _: object) -> bool:
        return False


@on_postgres
@by_savepoint
async def test_the_limit_is_each_holders(
    sessions: Sessions, policy: Policy, locks: KeyedLocks, clock: Clock
) -> None:
    """A call that has to wait for another holder waits for wait_timeout anew."""
    brief = replace(policy, wait_timeout=10)
    async with sessions() as one, sessions() as other:
        await other.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        await other.execute(select(Tag))
        await get_or_create(one, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(other, Tag, name="x", policy=brief))
        await until(lambda: locks.statistics().waiting)
        clock.now += 8
        queues = locks.queues()
        [key] = queues._holders
        await one.commit()
        # Its snapshot hides the row that it is told of; and the key is taken again.
        stranger = Stranger()
        assert queues.take(key, stranger)
        await until(lambda: locks.statistics().waited == 2)
        clock.now += 8
        for _ in range(9):
            await asyncio.sleep(0)
        assert not call.done()
        assert not locks.statistics().timeouts
        clock.now += 8
        with pytest.raises(exceptions.SnapshotConflictError):
            await call
        queues.release(key, stranger)
    assert locks.statistics().timeouts == 1


def test_policies_can_be_copied() -> None:
    """A copy, as by dataclasses.asdict(), has the same registry."""
    policy = Policy(locks=KeyedLocks())
    assert asdict(policy)["locks"] is policy.locks
