"""Make sure that a SAVEPOINT undoes what comes after it, and nothing else."""

from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, StaticPool
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper

from .._warn import warn_caller
from ..exceptions import SqliteTransactionWarning
from .facts import facts_of

# Engines that have been warned about. Written on the event loop's thread, only
# ever grows while the engine lives; a lost race between two threads warns twice.
_warned: WeakSet[Engine] = WeakSet()


def dialect_of(session: AsyncSession, mapper: Mapper[Any]) -> Dialect:
    """Return the dialect of the database that *mapper*'s rows go to."""
    return session.get_bind(mapper).dialect


async def flush(session: AsyncSession) -> bool:
    """Write the caller's pending changes, so that they fail as the caller's.

    Returns:
        Whether there were any, so that a look before it may be out of date.
    """
    if not (session.new or session.deleted or session.dirty):
        return False
    await session.flush()
    return True


async def settle(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Make sure that a SAVEPOINT undoes what comes after it, and nothing else.

    Returns:
        Whether anything was done, so that a look before it may be out of date.
    """
    has_one_writer = facts_of(dialect_of(session, mapper)).has_one_writer
    has_begun = has_one_writer and await _begin_immediate(session, mapper)
    return await flush(session) or has_begun


async def _begin_immediate(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Begin a real transaction where sqlite3 runs in its legacy mode.

    That mode begins none before SELECT and SAVEPOINT; releasing an outermost
    SAVEPOINT is then a COMMIT, which no rollback undoes. IMMEDIATE takes the write
    lock now: a deferred transaction that has read fails at once when it turns to
    writing after somebody else has written.
    """
    connection = await session.connection(bind_arguments={"mapper": mapper})
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    engine = connection.sync_engine
    if isinstance(engine.pool, StaticPool):
        _warn(
            engine,
            "all sessions share this SQLite engine's one connection (StaticPool), "
            "so a rollback in one undoes the others' work",
            "use a database file, for tests in a temporary folder",
        )
    if driver.in_transaction:
        return False
    # Without isolation_level nothing begins by itself: AUTOCOMMIT.
    if driver.isolation_level is None:
        _warn(
            engine,
            "this SQLite engine is in AUTOCOMMIT, so no rollback undoes a created row",
            "leave isolation_level out, or call async_goc.sqlite.configure(engine)",
        )
        return False
    await connection.exec_driver_sql("BEGIN IMMEDIATE")
    return True


def _warn(engine: Engine, reason: str, remedy: str) -> None:
    if engine not in _warned:
        _warned.add(engine)
        warn_caller(SqliteTransactionWarning(reason, remedy))
