"""Duplicates in one process cost one INSERT."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from backends import Sessions, on_postgres
from models import Author, Book, Tag
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from waiting import sent, until

from async_goc import (
    KeyedLocks,
    Policy,
    Stats,
    exceptions,
    get_or_create,
)

pytestmark = pytest.mark.one_driver


@pytest.fixture
async def ten(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with ten connections."""
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    yield engine
    await engine.dispose()


async def test_fifty_requests_cost_one_insert(
    ten: AsyncEngine, locks: KeyedLocks, policy: Policy, stats: Stats
) -> None:
    """49 wait for the creator's commit, and hold no connection meanwhile.

    Fails without `looks_first` in `find_or_create`, and without `created` in
    `find_or_insert`.
    """
    counts = sent(ten)
    unrelated = asyncio.Event()

    async def request() -> bool:
        async with AsyncSession(ten) as session, session.begin():
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
            if created:
                await unrelated.wait()
        return created

    requests = [asyncio.create_task(request()) for _ in range(50)]
    await until(lambda: locks.statistics().waiting == 49 and stats["created"])
    assert ten.pool.checkedout() == 1
    unrelated.set()
    assert sum(await asyncio.gather(*requests)) == 1
    assert counts["INSERT"] == 1
    assert counts["IntegrityError"] == 0
    assert stats["waited_hit"] == 49
    figures = locks.statistics()
    assert (figures.held, figures.waiting, figures.collapsed) == (0, 0, 49)
    assert (figures.acquired, figures.waited) == (1, 49)


async def test_one_creator_after_the_other(
    ten: AsyncEngine, locks: KeyedLocks, policy: Policy
) -> None:
    """Two creators roll back: three INSERTs, no violation, and 48 read the third."""
    counts = sent(ten)
    creators = 0

    async def request() -> bool:
        nonlocal creators
        async with AsyncSession(ten) as session:
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
            creators += created
            if not created:
                return False
            await until(lambda: locks.statistics().waiting == 50 - creators)
            if creators < 3:
                await session.rollback()
                return True
            await session.commit()
        return True

    assert sum(await asyncio.gather(*(request() for _ in range(50)))) == 3
    assert counts["INSERT"] == 3
    assert counts["IntegrityError"] == 0


@pytest.mark.parametrize("has_registry", [True, False])
@on_postgres
async def test_slow_defaults_run_once(
    sessions: Sessions, locks: KeyedLocks, policy: Policy, has_registry: bool
) -> None:
    """A call that waits for the row does not ask a slow service for its values."""
    policy = policy if has_registry else replace(policy, locks=None)
    calls = 0

    async def colour() -> str:
        nonlocal calls
        calls += 1
        expected = locks.statistics if has_registry else None
        await until(lambda: calls == 5 or (expected and expected().waiting == 4))
        return "blue"

    async def request() -> str | None:
        async with sessions.begin() as session:
            defaults = {"colour": colour}
            tag, _ = await get_or_create(
                session, Tag, name="x", defaults=defaults, policy=policy
            )
            return tag.colour

    colours = await asyncio.gather(*(request() for _ in range(5)))
    assert colours == ["blue"] * 5
    assert calls == (1 if has_registry else 5)


@on_postgres
async def test_a_row_that_the_snapshot_hides(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Told of a row that it cannot see, a call asks for the key, and gives it back.

    Fails without `_taken` in `Turn.queue`.
    """
    async with sessions() as first, sessions() as second:
        await second.connection(
            execution_options={"isolation_level": "REPEATABLE READ"}
        )
        await second.execute(select(Tag))
        await get_or_create(first, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(second, Tag, name="x", policy=policy))
        await until(lambda: locks.statistics().waiting)
        await first.commit()
        with pytest.raises(exceptions.SnapshotConflictError):
            await call
        assert locks.statistics().acquired == 2
        assert locks.statistics().held == 0


async def test_hold_for_the_call(
    sessions: Sessions, policy: Policy, locks: KeyedLocks, stats: Stats
) -> None:
    """hold="call" lets the next one go on at once; it meets the row in the database."""
    brief = replace(policy, hold="call")
    async with sessions() as first, sessions() as second:
        await get_or_create(first, Tag, name="x", policy=brief)
        assert locks.statistics().held == 0
        call = asyncio.create_task(
            get_or_create(second, Tag, name="x", policy=replace(policy, hold="call"))
        )
        await until(lambda: locks.statistics().acquired == 2)
        await first.commit()
        _, created = await call
    assert not created
    assert locks.statistics().waited == 0
    assert stats["created"] == 1


async def test_namespaces_do_not_meet(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Tenants that only the connection tells apart do not wait for each other here."""
    async with sessions() as one, sessions() as other:
        await get_or_create(
            one, Tag, name="x", policy=replace(policy, namespace="tenant 1")
        )
        call = asyncio.create_task(
            get_or_create(
                other, Tag, name="x", policy=replace(policy, namespace="tenant 2")
            )
        )
        await until(lambda: locks.statistics().held == 2)
        await one.commit()
        await call
        await other.commit()
    assert locks.statistics().waited == 0


async def test_without_a_registry(sessions: Sessions, policy: Policy) -> None:
    """locks=None: calls meet in the database only."""
    async with sessions.begin() as session:
        alone = replace(policy, locks=None)
        _, created = await get_or_create(session, Tag, name="x", policy=alone)
        assert created


async def test_same_session(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """A session never waits for itself: asking again, after a delete, in defaults."""
    tag, _ = await get_or_create(session, Tag, name="x", policy=policy)
    await session.delete(tag)
    await session.flush()

    async def colour() -> str:
        inner, created = await get_or_create(
            session, Tag, name="x", defaults={"colour": "inner"}, policy=policy
        )
        assert created
        return f"from {inner.colour}"

    tag, created = await get_or_create(
        session, Tag, name="x", defaults={"colour": colour}, policy=policy
    )
    assert (tag.colour, created) == ("inner", False)
    assert locks.statistics().held == 1
    await session.commit()
    figures = locks.statistics()
    assert (figures.held, figures.waited) == (0, 0)


async def test_a_pending_parent_has_no_key_at_first(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """A pending parent has a key as soon as the call has flushed it."""
    ann = Author(name="ann")
    session.add(ann)
    await get_or_create(session, Book, author=ann, title="x", policy=policy)
    assert locks.statistics().held == 1
