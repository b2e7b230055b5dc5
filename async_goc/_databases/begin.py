"""Make sure that a SAVEPOINT undoes what comes after it, and nothing else."""

from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper

from .._warn import warn_caller
from ..exceptions import SqliteTransactionWarning
from .connections import is_in_file, is_shared
from .facts import facts_of
from .writer import find_writer, writer_of

# Engines that have been warned about. Two threads that meet one engine at the same time
# may both warn; nothing else depends on this set.
_warned: WeakSet[Engine] = WeakSet()


async def flush(session: AsyncSession) -> bool:
    """Write the caller's pending changes; say whether there were any."""
    # Before the guard, so that an error of theirs is not taken for one of ours.
    own = session.sync_session
    if not (own.new or own.deleted or own.identity_map.check_modified()):
        return False
    await session.flush()
    return True


async def settle(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Prepare for a SAVEPOINT; say whether an earlier SELECT may be out of date."""
    dialect = session.sync_session.get_bind(mapper).dialect
    has_one_writer = facts_of(dialect).has_one_writer
    has_begun = has_one_writer and await _begin_immediate(session, mapper)
    return await flush(session) or has_begun


async def _begin_immediate(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Begin a real transaction where sqlite3 runs in its legacy mode."""
    # The legacy mode begins no transaction before SELECT and SAVEPOINT. Releasing an
    # outermost SAVEPOINT is then a COMMIT, which no rollback undoes. IMMEDIATE takes
    # the write lock now: a deferred transaction that has read, and then wants to write,
    # fails at once if another one has written in between.
    connection = await session.connection(bind_arguments={"mapper": mapper})
    pooled = await connection.get_raw_connection()
    driver: Any = pooled.driver_connection
    engine, own = connection.sync_engine, connection.sync_connection
    assert own is not None  # noqa: S101 - the connection is in use
    if engine not in _warned and is_shared(own):
        _warn(
            engine,
            "several sessions are at work on this SQLite engine's one connection "
            "(StaticPool), so they share one transaction",
            "use a database file, for tests in a temporary folder",
        )
    writer = find_writer(engine)
    if driver.in_transaction and not (writer and writer.is_anothers(pooled)):
        has_begun = writer is not None and writer.has_begun(pooled)
        is_fixture = own is session.sync_session.bind and own.in_nested_transaction()
        if is_fixture and not has_begun and engine not in _warned:
            await _warn_of_savepoint(engine, driver)
        return False
    # Without an isolation_level, sqlite3 never begins a transaction by itself.
    if driver.isolation_level is None:
        _warn(
            engine,
            "this SQLite engine is in AUTOCOMMIT, so no rollback undoes a created row",
            "leave isolation_level out, or call async_goc.sqlite.configure(engine)",
        )
        return False
    if writer is None:
        writer = writer_of(engine)
        writer.limit = await _busy_timeout(driver)
    await connection.run_sync(writer.begin_immediate)
    return True


def refuse_without_transaction(connection: Connection) -> None:
    """Refuse a connection whose driver has begun nothing where SQLAlchemy has."""
    if facts_of(connection.dialect).has_one_writer and not is_in_file(connection):
        msg = (
            f"the driver of {connection.engine!r} begins no transaction before a "
            "SAVEPOINT, so the first one to be released commits, and a rollback undoes "
            "nothing; call async_goc.sqlite.configure(engine) where the engine is made"
        )
        raise TypeError(msg)


async def _busy_timeout(driver: Any) -> float:
    """Return for how many seconds the driver waits for another connection's lock."""
    async with driver.execute("PRAGMA busy_timeout") as cursor:
        [milliseconds] = await cursor.fetchone()
    return float(milliseconds / 1000)


async def _warn_of_savepoint(engine: Engine, driver: Any) -> None:
    """Warn of a SAVEPOINT of the caller's that may have come before any BEGIN."""
    if driver.isolation_level is None:
        return  # A listener of the caller's begins the transactions.
    # Since Python 3.12, sqlite3 may begin them as well. It says so only in the thread
    # of the connection, which is where rows are made.
    async with driver.execute("SELECT 1") as cursor:
        cursor.row_factory = _autocommit_of
        if await cursor.fetchone() is False:
            return
    _warn(
        engine,
        "this session's connection was in a SAVEPOINT before the call, and sqlite3 "
        "begins no transaction before a SAVEPOINT, so its rollback may undo nothing",
        "call async_goc.sqlite.configure(engine)",
    )


def _autocommit_of(cursor: Any, _row: object) -> object:
    return getattr(cursor.connection, "autocommit", None)


def _warn(engine: Engine, reason: str, remedy: str) -> None:
    if engine not in _warned:
        _warned.add(engine)
        warn_caller(SqliteTransactionWarning(reason, remedy))
