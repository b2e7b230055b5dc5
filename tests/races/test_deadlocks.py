"""Whatever waits for what, each call ends: here or in the database."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from backends import POSTGRES, Sessions
from models import Tag
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from waiting import until

from async_goc import KeyedLocks, Policy, get_or_create
from async_goc._databases import connections_of
from async_goc._models import is_executing

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
    pytest.mark.timeout(20),
]

DEADLOCK = "40P01"


@pytest.fixture
def policy(locks: KeyedLocks) -> Policy:
    return Policy(locks=locks)


@pytest.fixture
def brief(locks: KeyedLocks) -> Policy:
    """A policy that soon leaves it to the database."""
    return Policy(locks=locks, wait_timeout=0.2)


async def within_five_seconds(*calls: Awaitable[Any]) -> list[Any]:
    """Run the calls at once, and return what each one came to."""
    async with asyncio.timeout(5):
        return await asyncio.gather(*calls, return_exceptions=True)


def check(results: list[Any]) -> None:
    """At least one has succeeded; the others got the database's own error."""
    errors = [result for result in results if isinstance(result, BaseException)]
    assert len(errors) < len(results)
    for error in errors:
        assert isinstance(error, DBAPIError)
        assert getattr(error.orig, "sqlstate", None) == DEADLOCK


@pytest.mark.parametrize("members", [2, 3])
async def test_rings(
    sessions: Sessions, policy: Policy, locks: KeyedLocks, members: int
) -> None:
    """Each asks for the next one's key: the database, not the queue, finds the victim.

    Fails without `_is_cycle` in `Queues.wait`.
    """
    barrier = asyncio.Barrier(members)

    async def member(number: int) -> None:
        async with sessions.begin() as session:
            for step in (0, 1):
                name = f"tag {(number + step) % members}"
                await get_or_create(session, Tag, name=name, policy=policy)
                if not step:
                    await barrier.wait()

    results = await within_five_seconds(*map(member, range(members)))
    check(results)
    figures = locks.statistics()
    assert figures.deadlocks_avoided >= members
    assert (figures.held, figures.waiting, figures.timeouts) == (0, 0, 0)


async def test_a_row_lock_and_a_key(sessions: Sessions, brief: Policy) -> None:
    """One call waits for a row lock, and the holder of that lock for the call's key.

    Neither side sees the whole cycle; after wait_timeout the database does.
    """
    async with sessions.begin() as session:
        session.add(Tag(name="row"))
    lock_row = update(Tag).where(Tag.name == "row").values(colour="blue")
    has_key, has_row = asyncio.Event(), asyncio.Event()

    async def key_then_row() -> None:
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name="key", policy=brief)
            has_key.set()
            await has_row.wait()
            await session.execute(lock_row)

    async def row_then_key() -> None:
        async with sessions.begin() as session:
            await session.execute(lock_row)
            has_row.set()
            await has_key.wait()
            await get_or_create(session, Tag, name="key", policy=brief)

    check(await within_five_seconds(key_then_row(), row_then_key()))


@pytest.fixture
def patient(locks: KeyedLocks) -> Policy:
    """A policy that waits for ever."""
    return Policy(locks=locks, wait_timeout=None)


async def ask_and_end(session: AsyncSession, name: str, policy: Policy) -> None:
    await end(session, get_or_create(session, Tag, name=name, policy=policy))


async def end(session: AsyncSession, last: Awaitable[object]) -> None:
    """Do the last, and end the transaction, as a victim of a deadlock has to."""
    try:
        await last
    finally:
        await session.rollback()


@pytest.mark.parametrize("is_direct", [True, False])
async def test_a_pending_row_and_a_key(
    sessions: Sessions, patient: Policy, *, is_direct: bool
) -> None:
    """Half of the cycle is in the database, and no limit ends the other half.

    Fails without `_end_hidden_cycles` in `Sweeper._sweep`: it hangs.
    """
    async with sessions() as one, sessions() as other, sessions() as between:
        one.add(Tag(name="row"))
        await one.flush()
        await get_or_create(other, Tag, name="key", policy=patient)
        await get_or_create(between, Tag, name="more", policy=patient)
        blocked = asyncio.create_task(ask_and_end(other, "row", patient))
        await until(lambda: is_waiting(other))
        # It waits for the blocked one, itself or for what waits for that.
        last = ask_and_end(one, "key" if is_direct else "more", patient)
        calls = [ask_and_end(between, "key", patient), last]
        check(await within_five_seconds(blocked, *calls))


@pytest.mark.parametrize(
    ("how", "limit"), [("commit", 0.2), ("commit", None), ("stream", 0.2)]
)
async def test_what_waits_unseen_and_a_key(
    sessions: Sessions,
    engine: AsyncEngine,
    locks: KeyedLocks,
    how: str,
    limit: float | None,
) -> None:
    """The holder waits for a row that one of its waiters has locked.

    Its COMMIT checks a foreign key, or it streams rows: no statement is seen.

    Fails without `connected` in `Queues._send_scout`, and without `is_committing` in
    `TransactionOwner.is_executing`: it hangs.
    """
    async with engine.begin() as connection:
        for statement in (
            "CREATE TABLE IF NOT EXISTS parent_row (id INT PRIMARY KEY)",
            """CREATE TABLE IF NOT EXISTS child_row (id INT REFERENCES parent_row
            DEFERRABLE INITIALLY DEFERRED)""",
            "DELETE FROM child_row",
            "DELETE FROM parent_row",
            "INSERT INTO parent_row VALUES (1)",
        ):
            await connection.execute(text(statement))
    policy = Policy(locks=locks, wait_timeout=limit)
    async with sessions() as holder, sessions() as first, sessions() as second:
        lock_parent = text("SELECT * FROM parent_row FOR UPDATE")
        await second.execute(lock_parent)
        await first.connection()
        await get_or_create(holder, Tag, name="key", policy=policy)
        await holder.execute(text("INSERT INTO child_row VALUES (1)"))
        calls: list[Awaitable[Any]] = [
            asyncio.create_task(ask_and_end(session, "key", policy))
            for session in (first, second)
        ]
        await until(lambda: locks.statistics().waiting == len(calls))

        async def stream() -> None:
            await (await holder.stream(lock_parent)).all()

        last = holder.commit() if how == "commit" else stream()
        calls.append(asyncio.ensure_future(end(holder, last)))
        check(await within_five_seconds(*calls))
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE child_row, parent_row"))


async def test_keys_that_are_let_go_with_the_call(
    sessions: Sessions, locks: KeyedLocks
) -> None:
    """A key that is free again does not say whose row its next holder waits for.

    Fails without `_end_hidden_cycles` in `Sweeper._sweep`: it hangs.
    """
    policy = Policy(locks=locks, hold="call", wait_timeout=None)
    async with sessions() as one, sessions() as other, sessions() as third:
        await get_or_create(one, Tag, name="a", policy=policy)
        await get_or_create(other, Tag, name="b", policy=policy)
        calls: list[Awaitable[Any]] = []
        for session, name in ((third, "b"), (other, "a")):
            calls.append(asyncio.create_task(ask_and_end(session, name, policy)))
        await until(lambda: is_waiting(third) and is_waiting(other))
        calls.append(ask_and_end(one, "b", policy))
        check(await within_five_seconds(*calls))


def is_waiting(session: AsyncSession) -> bool:
    """Whether a statement of the session has not come back."""
    return any(map(is_executing, connections_of(session.sync_session)))


async def test_an_owner_that_never_commits(
    sessions: Sessions, brief: Policy, locks: KeyedLocks
) -> None:
    """The others wait as long as for any transaction: until the server ends it."""
    async with sessions() as owner, sessions() as follower:
        await get_or_create(owner, Tag, name="x", policy=brief)
        call = asyncio.create_task(get_or_create(follower, Tag, name="x", policy=brief))
        await until(lambda: locks.statistics().timeouts)
        await owner.execute(text("SET idle_in_transaction_session_timeout = 50"))
        [result] = await within_five_seconds(call)
        assert result[1] is True
        await follower.commit()
        await owner.invalidate()
    assert locks.statistics().timeouts == 1


async def test_an_owner_without_a_connection(
    url: str, policy: Policy, locks: KeyedLocks
) -> None:
    """An owner without a connection is not waited for by those that have one.

    Fails without `rank` in `Queues.take`: by timeouts.
    """
    engine = create_async_engine(url, pool_size=3, max_overflow=0)
    sessions = async_sessionmaker(engine)

    all_taken, go = asyncio.Barrier(4), asyncio.Event()

    async def call(*, is_connected: bool) -> bool:
        async with sessions.begin() as session:
            if is_connected:
                await session.connection()
            await all_taken.wait()
            if is_connected:
                await go.wait()
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
        return created

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        calls = [group.create_task(call(is_connected=i < 3)) for i in range(4)]
        await until(lambda: locks.statistics().acquired == 1)
        go.set()
    assert sum(call.result() for call in calls) == 1
    assert locks.statistics().timeouts == 0
    await engine.dispose()
