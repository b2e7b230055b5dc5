"""Make sure that a SAVEPOINT undoes what comes after it, and nothing else."""

from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, StaticPool
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper

from .._warn import warn_caller
from ..exceptions import SqliteTransactionWarning
from .facts import facts_of

# Engines that have been warned about. Two threads that meet one engine at the same time
# may both warn; nothing else depends on this set.
_warned: WeakSet[Engine] = WeakSet()


async def flush(session: AsyncSession) -> bool:
    """Write the caller's pending changes; say whether there were any."""
    # Before the guard, so that an error of theirs is not taken for one of ours.
    if not (session.new or session.deleted or session.dirty):
        return False
    await session.flush()
    return True


async def settle(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Prepare for a SAVEPOINT; say whether an earlier SELECT may be out of date."""
    has_one_writer = facts_of(
        session.sync_session.get_bind(mapper).dialect
    ).has_one_writer
    has_begun = has_one_writer and await _begin_immediate(session, mapper)
    return await flush(session) or has_begun


async def _begin_immediate(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Begin a real transaction where sqlite3 runs in its legacy mode."""
    # The legacy mode begins no transaction before SELECT and SAVEPOINT. Releasing an
    # outermost SAVEPOINT is then a COMMIT, which no rollback undoes. IMMEDIATE takes
    # the write lock now: a deferred transaction that has read, and then wants to write,
    # fails at once if another one has written in between.
    connection = await session.connection(bind_arguments={"mapper": mapper})
    driver: Any = (await connection.get_raw_connection()).driver_connection
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
    # Without an isolation_level, sqlite3 never begins a transaction by itself.
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
