"""Calls cancelled at every place where they can be."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any

import pytest
import steps
from backends import Sessions, by_savepoint, on_postgres
from models import Tag
from psycopg import waiting
from rows import id_of
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from waiting import until

from async_goc import KeyedLocks, Policy, get_or_create

# aiosqlite's close() may be cancelled, too, and its connection left to the collector.
# It is so without get_or_create(), too; since Python 3.13, sqlite3 warns of it.
pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.usefixtures("cheap_collections"),
]

Ask = Callable[[AsyncSession], Awaitable[tuple[Tag, bool]]]
Answer = tuple[int, bool]
Transaction = Callable[[Sessions, Ask], Coroutine[Any, Any, Answer]]


@pytest.fixture(autouse=True)
def suspending_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let psycopg also suspend where it has nothing to wait for.

    It does it from time to time. Then the pool's ROLLBACK after a COMMIT can be
    cancelled, and SQLAlchemy does not say that the transaction has ended.
    """
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", -1, raising=False)


async def in_blocks(sessions: Sessions, ask: Ask) -> Answer:
    async with sessions() as session, session.begin():
        tag, created = await ask(session)
        return tag.id, created


async def by_hand(sessions: Sessions, ask: Ask) -> Answer:
    session = sessions()
    try:
        tag, created = await ask(session)
        answer = tag.id, created
        await session.commit()
    finally:
        await session.close()
    return answer


# Each of them is there every day, and each with each in the heavy run.
ways = pytest.mark.parametrize(
    ("way", "transaction"),
    [
        (steps.cancel, in_blocks),
        (steps.cancel_late, by_hand),
        (steps.cancel_scope, in_blocks),
        pytest.param(steps.cancel, by_hand, marks=pytest.mark.heavy),
        pytest.param(steps.cancel_late, in_blocks, marks=pytest.mark.heavy),
        pytest.param(steps.cancel_scope, by_hand, marks=pytest.mark.heavy),
    ],
)


def asking(name: str, policy: Policy) -> Ask:
    return lambda session: get_or_create(session, Tag, name=name, policy=policy)


def noting(ask: Ask, ids: list[int]) -> Ask:
    async def ask_and_note(session: AsyncSession) -> tuple[Tag, bool]:
        tag, created = await ask(session)
        ids.append(tag.id)
        return tag, created

    return ask_and_note


@ways
async def test_a_miss(
    engine: AsyncEngine,
    sessions: Sessions,
    locks: KeyedLocks,
    policy: Policy,
    way: steps.Way,
    transaction: Transaction,
) -> None:
    """Wherever a transaction is cancelled, nothing is left; the next one is served.

    Fails without `leave` in `Turn.__exit__`, without `_on_commit`, and without
    `_on_end`.
    """
    for k in count(1):
        ask = asking(f"tag {k}", policy)
        was_cancelled = await way(transaction(sessions, ask), k)
        await steps.collect(engine)
        await steps.rest(engine, locks)
        was_committed = await id_of(engine, f"tag {k}") is not None
        _, created = await in_blocks(sessions, ask)
        assert created is not was_committed
        await steps.rest(engine, locks)
        if not was_cancelled:
            assert was_committed
            assert k > 4
            break


@by_savepoint  # It only differs in what its leader and itself do before and after.
@ways
async def test_a_follower(
    engine: AsyncEngine,
    sessions: Sessions,
    locks: KeyedLocks,
    policy: Policy,
    way: steps.Way,
    transaction: Transaction,
) -> None:
    """A follower may be cancelled anywhere, in the queue and after it has left it.

    Its leader rolls back, so that it has all to do by itself; the one behind it does it
    if it is cancelled. Fails without `_abandon` in `Queues.wait`.
    """
    for k in count(1):
        ask = asking(f"tag {k}", policy)
        async with sessions() as leader:
            await ask(leader)
            # In this order: each waits in its first step.
            following = asyncio.create_task(way(transaction(sessions, ask), k))
            behind = asyncio.create_task(in_blocks(sessions, ask))
            rollback = asyncio.create_task(leader.rollback())
            was_cancelled = await following
            await rollback
        await steps.collect(engine)
        id_, created = await asyncio.wait_for(behind, 10)
        assert locks.statistics().waited == 2 * k
        assert id_ == await id_of(engine, f"tag {k}")
        if not was_cancelled:
            assert not created
            assert k > 4
            break
        await steps.rest(engine, locks)


@ways
async def test_a_leader(
    engine: AsyncEngine,
    sessions: Sessions,
    locks: KeyedLocks,
    policy: Policy,
    way: steps.Way,
    transaction: Transaction,
) -> None:
    """Wherever the leader is cancelled, its followers get the row: one creates it.

    Fails without `leave` in `Turn.__exit__`.
    """
    for k in count(1):
        ask = asking(f"tag {k}", policy)
        led: list[int] = []

        # In this order: it has the key when they come, in its first step.
        lead = transaction(sessions, noting(ask, led))
        leading = asyncio.create_task(way(lead, k))
        following = [asyncio.create_task(in_blocks(sessions, ask)) for _ in range(3)]
        was_cancelled = await leading
        await steps.collect(engine)
        answers = await asyncio.wait_for(asyncio.gather(*following), 10)
        (id_,) = {id_ for id_, _ in answers}
        # Its row is there only if it was cancelled while, or after, it committed.
        assert sum(created for _, created in answers) == (id_ not in led)
        assert locks.statistics().waited >= 3 * k
        await steps.rest(engine, locks)
        if not was_cancelled:
            assert id_ in led
            assert k > 4
            break


async def test_a_waiter_leaves_no_trace(
    engine: AsyncEngine, sessions: Sessions, locks: KeyedLocks, policy: Policy
) -> None:
    """Cancelled in the queue, a call has not touched a session without a connection."""
    async with sessions() as leader, sessions() as session:
        await get_or_create(leader, Tag, name="red", policy=policy)
        session.add(Tag(name="pending"))
        before = steps.state(engine, session)
        waits = asyncio.create_task(asking("red", policy)(session))
        await until(lambda: locks.statistics().waiting)
        assert steps.state(engine, session) == before
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert steps.state(engine, session) == before
        assert (locks.statistics().held, locks.statistics().waiting) == (1, 0)
        await leader.commit()
        _, created = await get_or_create(session, Tag, name="red", policy=policy)
        assert not created


@on_postgres
@pytest.mark.parametrize("is_late", [False, True], ids=["waiting", "granted"])
async def test_a_waiter_keeps_its_transaction(
    engine: AsyncEngine,
    sessions: Sessions,
    locks: KeyedLocks,
    policy: Policy,
    is_late: bool,
) -> None:
    """Cancelled in the queue, or in the tick of the grant, a call has changed nothing.

    The transaction goes on; a key that was granted goes to the next one. Fails without
    `_abandon` in `Queues.wait`.
    """
    async with sessions() as leader, sessions() as session, sessions() as behind:
        await get_or_create(leader, Tag, name="red", policy=policy)
        blue, _ = await get_or_create(session, Tag, name="blue", policy=policy)
        blue_id = blue.id

        def cancel() -> None:
            task.cancel()

        call = steps.Steps(asking("red", policy)(session), cancel, is_late=is_late)
        task = asyncio.ensure_future(call)
        await until(lambda: locks.statistics().waiting == 1)
        follows = asyncio.create_task(asking("red", policy)(behind))
        await until(lambda: locks.statistics().waiting == 2)
        before = steps.state(engine, session)
        assert before[0]
        if is_late:
            call.at.add(call.count)
            await leader.rollback()
        else:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await leader.rollback()
        _, created = await asyncio.wait_for(follows, 10)
        assert created
        *now, _ = steps.state(engine, session)
        assert now == list(before[:-1])
        await session.commit()
        await behind.commit()
        assert await id_of(engine, "blue") == blue_id
        assert locks.statistics().held == 0
