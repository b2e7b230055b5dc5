"""On SQLite the whole database is the key: it has one writer at a time."""

import asyncio
from typing import Any

from backends import Sessions, on_sqlite
from models import Tag
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
)

from async_goc import (
    KeyedLocks,
    Policy,
    Stats,
    get_or_create,
)


@on_sqlite
async def test_sessions_of_one_connection(
    engine: AsyncEngine, policy: Policy, locks: KeyedLocks
) -> None:
    """Sessions of one connection share its transaction, and never wait in turn."""
    async with engine.connect() as connection:
        join: Any = {"join_transaction_mode": "create_savepoint"}
        async with asyncio.timeout(5):
            one = AsyncSession(connection, **join)
            await get_or_create(one, Tag, name="x", policy=policy)
            async with AsyncSession(connection, **join) as other:
                await get_or_create(other, Tag, name="y", policy=policy)
                await other.commit()
            await one.close()
    assert locks.statistics().waited == 0


@on_sqlite
async def test_sqlite_savepoints(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """A savepoint's rollback unlocks no file; its key stays with the transaction.

    Fails without `table` in `TransactionOwner.keep`.
    """
    savepoint = await session.begin_nested()
    await get_or_create(session, Tag, name="x", policy=policy)
    await savepoint.rollback()
    assert locks.statistics().held == 1
    await session.commit()
    assert locks.statistics().held == 0


@on_sqlite
async def test_sqlite_does_not_say_who_created_what(
    sessions: Sessions, policy: Policy, locks: KeyedLocks, stats: Stats
) -> None:
    """Rows that were there are hits, though the calls have queued."""
    async with sessions.begin() as session:
        session.add(Tag(name="x"))

    async def request() -> None:
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name="x", policy=policy)

    await asyncio.gather(*(request() for _ in range(5)))
    assert stats["hit"] == 5
    assert (locks.statistics().waited, locks.statistics().collapsed) == (4, 0)
