"""Whichever way a transaction ends, its keys end with it."""

import asyncio
import gc
from typing import Any

import pytest
from backends import Sessions, on_postgres, on_sqlite
from models import Tag
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from waiting import until

from async_goc import KeyedLocks, Policy, get_or_create
from async_goc._databases.connections import is_in_file

pytestmark = pytest.mark.one_driver


def leaves_connections(test: Any) -> Any:
    """Let SQLAlchemy and psycopg say that the collector has found a connection."""
    for warning in (
        "ignore:The garbage collector:sqlalchemy.exc.SAWarning",
        "ignore:.*was deleted while still open:ResourceWarning",
    ):
        test = pytest.mark.filterwarnings(warning)(test)
    return test


async def create(session: AsyncSession, name: str, policy: Policy) -> Tag:
    tag, created = await get_or_create(session, Tag, name=name, policy=policy)
    assert created
    return tag


async def close_in_part(session: AsyncSession) -> object:
    """Cancel the session's close(); return the transaction, to be kept from the gc."""
    root = session.sync_session.get_transaction()
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0)  # It has sent the ROLLBACK.
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    return root


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
async def test_the_end_of_the_transaction(
    session: AsyncSession, policy: Policy, locks: KeyedLocks, end: str
) -> None:
    """The keys are held until then, and the next transaction has keys of its own."""
    for name in ("x", "y"):
        await create(session, name, policy)
        await session.flush()
        assert locks.statistics().held == 1
        await getattr(session, end)()
        assert locks.statistics().held == 0


async def test_a_commit_inside_of_another_transaction(
    engine: AsyncEngine, policy: Policy, locks: KeyedLocks
) -> None:
    """The keys are released, but others are not told that the rows exist.

    Fails without `is_inside` in `TransactionOwner.commit`.
    """
    how: Any = {"join_transaction_mode": "create_savepoint"}
    async with engine.connect() as connection:
        await connection.begin()
        async with AsyncSession(connection, **how) as session:
            await create(session, "x", policy)
            await session.commit()
            assert "0 held, 0 waiting, 0 remembered" in repr(locks)
    async with AsyncSession(engine) as session:
        await create(session, "x", policy)
        await session.commit()
    assert "0 held, 0 waiting, 1 remembered" in repr(locks)


async def test_an_exception_ends_it(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """A context manager that rolls back releases, too."""

    async def work() -> None:
        async with sessions.begin() as session:
            await create(session, "x", policy)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert locks.statistics().held == 0


async def test_savepoints(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """A savepoint's rollback releases what was created in it, and in those inside."""

    def held() -> int:
        return locks.statistics().held

    await create(session, "root", policy)
    outer = await session.begin_nested()
    await create(session, "outer", policy)
    async with session.begin_nested():
        await create(session, "released", policy)
        innermost = await session.begin_nested()
        await create(session, "rolled back", policy)
        assert held() == 4
        await innermost.rollback()
        assert held() == 3
    assert held() == 3
    await outer.rollback()
    assert held() == 1
    async with session.begin_nested():
        await create(session, "to the root", policy)
    assert held() == 2
    await session.begin_nested()
    await create(session, "left open", policy)
    await session.rollback()
    assert held() == 0


async def test_commit_with_an_open_savepoint(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """The commit releases the savepoint first; followers are told of the row."""
    async with sessions() as session, sessions() as follower:
        await session.begin_nested()
        await create(session, "x", policy)
        call = asyncio.create_task(
            get_or_create(follower, Tag, name="x", policy=policy)
        )
        await until(lambda: locks.statistics().waiting)
        await session.commit()
        _, created = await call
        assert not created
    assert locks.statistics().collapsed == 1


@on_postgres
async def test_a_dead_connection(
    sessions: Sessions, engine: AsyncEngine, policy: Policy, locks: KeyedLocks
) -> None:
    """A killed backend: the follower creates the row, whatever close() meets."""
    async with sessions() as session, sessions() as follower:
        await create(session, "x", policy)
        call = asyncio.create_task(create(follower, "x", policy))
        await until(lambda: locks.statistics().waiting)
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        async with engine.connect() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT 1"))
        await session.close()
        await call
        await follower.commit()
    assert locks.statistics().held == 0


@leaves_connections
@on_postgres
async def test_a_dropped_session(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """The garbage collector tells that a session has gone.

    Fails without `run_soon` in `TransactionOwner.keep`.
    """
    session = sessions()
    await create(session, "x", policy)
    async with sessions() as follower:
        call = asyncio.create_task(create(follower, "x", policy))
        await until(lambda: locks.statistics().waiting)
        del session
        gc.collect()
        await call
        await follower.commit()
    session = sessions()
    await create(session, "nobody waits for it", policy)
    del session
    gc.collect()
    await until(lambda: locks.statistics().reclaimed == 2)
    assert locks.statistics().held == 0


@leaves_connections
async def test_close_cancelled_in_the_middle(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """SQLAlchemy announces nothing then; a waiter finds that the owner is gone."""
    session = sessions()
    await create(session, "x", policy)
    root = await close_in_part(session)
    assert root is not None
    assert locks.statistics().reclaimed == 0
    async with sessions() as follower:
        await create(follower, "x", policy)
        await follower.commit()
    assert locks.statistics().reclaimed == 1


@leaves_connections
async def test_the_next_transaction_finds_the_last_one_gone(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """The session itself finds it gone, too, when it asks again."""
    session = sessions()
    await create(session, "x", policy)
    root = await close_in_part(session)
    assert root is not None
    await create(session, "x", policy)
    assert locks.statistics().held == 1
    await session.close()
    assert locks.statistics().held == 0


@on_sqlite
async def test_a_closed_connection_is_in_no_transaction(engine: AsyncEngine) -> None:
    """Asking a closed connection does not fail, however it was closed."""
    async with engine.connect() as connection:
        sync = connection.sync_connection
        assert sync is not None
        assert not is_in_file(sync)
        await connection.execute(text("SELECT 1"))
        assert is_in_file(sync)
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.close()
        assert not is_in_file(sync)
        await connection.invalidate()
        assert not is_in_file(sync)
