"""One slow creator keeps the others waiting, and leaves the connection pool to them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from backends import POSTGRES
from models import Tag
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from waiting import until

from async_goc import KeyedLocks, Policy, get_or_create, get_or_create_many

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
    pytest.mark.timeout(30),
]

LIMITS = [0, 0.1, None]


@pytest.fixture
async def small_pool(url: str) -> AsyncIterator[AsyncEngine]:
    """A pool of three connections."""
    engine = create_async_engine(url, pool_size=3, max_overflow=0)
    yield engine
    await engine.dispose()


def checked_out(engine: AsyncEngine) -> int:
    pool: Any = engine.pool
    return int(pool.checkedout())


def has_scout(locks: KeyedLocks) -> bool:
    return any(line.scout for line in locks.queues()._lines.values())


@pytest.mark.parametrize("limit", LIMITS)
async def test_one_slow_creator(
    small_pool: AsyncEngine,
    locks: KeyedLocks,
    caplog: pytest.LogCaptureFixture,
    limit: float | None,
) -> None:
    """All are served, and another row meanwhile; one of the waiters asks the database.

    Fails without `scout` in `Queues._arrange`: the pool is empty.
    """
    sessions = async_sessionmaker(small_pool)
    policy = Policy(locks=locks, wait_timeout=limit)

    async def ask(name: str) -> bool:
        async with sessions.begin() as session:
            _, created = await get_or_create(session, Tag, name=name, policy=policy)
        return created

    with caplog.at_level(logging.WARNING, logger="async_goc"):
        async with sessions() as slow:
            await get_or_create(slow, Tag, name="x", policy=policy)
            waiting = [asyncio.create_task(ask("x")) for _ in range(30)]
            scouts = 0 if limit is None else 1
            await until(lambda: locks.statistics().timeouts == scouts)
            await until(lambda: locks.statistics().waiting == 30 - scouts)
            await until(lambda: checked_out(small_pool) == 1 + scouts)
            assert await ask("unrelated")
            assert checked_out(small_pool) == 1 + scouts
            await slow.commit()
        assert await asyncio.gather(*waiting) == [False] * 30
    assert len(caplog.records) == scouts
    assert (locks.statistics().timeouts, locks.statistics().held) == (scouts, 0)


@pytest.mark.parametrize("limit", LIMITS)
async def test_slow_creators_in_a_row(
    small_pool: AsyncEngine,
    locks: KeyedLocks,
    caplog: pytest.LogCaptureFixture,
    limit: float | None,
) -> None:
    """Each that fails is followed by one other, whatever is cancelled meanwhile."""
    sessions = async_sessionmaker(small_pool)
    policy = Policy(locks=locks, wait_timeout=limit)
    creators: list[asyncio.Event] = []
    slow = 3

    async def ask() -> bool:
        async with sessions() as session:
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
            if created and len(creators) < slow:
                gate = asyncio.Event()
                creators.append(gate)
                await gate.wait()
                await session.rollback()
            await session.commit()
        return created

    with caplog.at_level(logging.WARNING, logger="async_goc"):
        tasks = [asyncio.create_task(ask()) for _ in range(30)]
        scouts = 0 if limit is None else 1
        for number in range(slow):
            await until(lambda: len(creators) == number + 1)  # noqa: B023
            await until(lambda: has_scout(locks) or limit is None)
            await until(lambda: checked_out(small_pool) == 1 + scouts)
            tasks[-1 - number].cancel()
            creators[number].set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(result is True for result in results) == slow + 1
    assert [type(result) for result in results[-slow:]] == [asyncio.CancelledError] * 3
    # The one that creates the row at last may have kept a scout waiting, too.
    assert len(caplog.records) <= (0 if limit is None else slow + 1)
    assert locks.statistics().held == 0


@pytest.mark.parametrize("limit", LIMITS)
async def test_one_slow_creator_of_many_rows(
    small_pool: AsyncEngine, locks: KeyedLocks, limit: float | None
) -> None:
    """However many keys it holds, one of the waiters asks the database at a time.

    Fails without `has_scout` in `Queues._send_scout`: the pool is empty.
    """
    sessions = async_sessionmaker(small_pool)
    policy = Policy(locks=locks, wait_timeout=limit)
    names = [f"row {number}" for number in range(10)]

    async def ask(name: str) -> bool:
        async with sessions.begin() as session:
            _, created = await get_or_create(session, Tag, name=name, policy=policy)
        return created

    async with sessions() as slow:
        await get_or_create_many(slow, Tag, names, key="name", policy=policy)
        waiting = [asyncio.create_task(ask(name)) for name in names * 2]
        scouts = 0 if limit is None else 1
        await until(lambda: locks.statistics().waiting == len(waiting) - scouts)
        await until(lambda: checked_out(small_pool) == 1 + scouts)
        assert await ask("unrelated")
        assert checked_out(small_pool) == 1 + scouts
        await slow.commit()
    assert await asyncio.gather(*waiting) == [False] * len(waiting)
    assert locks.statistics().held == 0


async def test_cancelled_scout(small_pool: AsyncEngine, locks: KeyedLocks) -> None:
    """The next in line goes in its place, at once.

    Fails without `_arrange` in `Queues.release`.
    """
    policy = Policy(locks=locks, wait_timeout=0.1)

    async def ask(session: AsyncSession) -> bool:
        _, created = await get_or_create(session, Tag, name="x", policy=policy)
        await session.commit()
        return created

    sessions = async_sessionmaker(small_pool)
    async with sessions() as slow, sessions() as first, sessions() as second:
        await get_or_create(slow, Tag, name="x", policy=policy)
        scout = asyncio.create_task(ask(first))
        await until(lambda: locks.statistics().timeouts == 1)
        waiting = asyncio.create_task(ask(second))
        await until(lambda: locks.statistics().waiting == 1)
        scout.cancel()
        await until(lambda: locks.statistics().timeouts == 2)
        await slow.commit()
        assert not await waiting
    assert locks.statistics().held == 0
