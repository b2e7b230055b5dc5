"""Give SQLite real transactions, and the settings a concurrent program wants."""

import asyncio
import sqlite3
import time
from typing import Any, Literal, get_args

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["configure"]

Begin = Literal["DEFERRED", "IMMEDIATE", "EXCLUSIVE"]
JournalMode = Literal["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "WAL", "OFF"]


def configure(
    engine: AsyncEngine,
    *,
    begin: Begin = "IMMEDIATE",
    journal_mode: JournalMode = "WAL",
    busy_timeout: float = 5.0,
    foreign_keys: bool = True,
) -> AsyncEngine:
    """Make *engine* begin real transactions, and set up each new connection.

    Python's sqlite3 begins a transaction only before INSERT, UPDATE and DELETE. So
    reads are not repeatable, and releasing a savepoint commits if the savepoint came
    before any of these. (get_or_create() begins before its own savepoint. It cannot
    help where the caller has opened one before the call, as the usual test fixture
    does.) After this call, each transaction of the engine starts with a BEGIN by
    SQLAlchemy. Call it once, before the engine is first used: connections that are
    already open keep their settings.

    Args:
        engine: An engine with the ``sqlite+aiosqlite`` dialect, without
            ``isolation_level`` and without ``autocommit`` in ``connect_args``.
        begin: ``"IMMEDIATE"`` takes the write lock at the start: transactions
            queue there, and none fails later because another one has written
            since it read. ``"DEFERRED"`` lets readers run beside a writer.
        journal_mode: ``"WAL"`` lets readers and a writer work at the same time. The
            mode is stored in the database file.
        busy_timeout: Seconds to wait for another connection's lock before
            "database is locked".
        foreign_keys: Whether foreign keys are enforced.

    Returns:
        The same engine.

    Raises:
        ValueError: The engine is not SQLite, or a value is out of its range.
    """
    _check(engine, begin, journal_mode, busy_timeout)

    def on_connect(connection: Any, _entry: ConnectionPoolEntry) -> None:
        # Left alone, sqlite3 would begin its own transactions beside ours.
        connection.isolation_level = None
        cursor = connection.cursor()
        # This one comes first, because a change of the journal mode may have to wait.
        cursor.execute(f"PRAGMA busy_timeout = {round(busy_timeout * 1000)}")
        deadline = time.monotonic() + busy_timeout
        while not _has_set_journal_mode(cursor, journal_mode, deadline):
            connection.run_async(_pause)
        cursor.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        cursor.close()

    def on_begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        # SQLite refuses a BEGIN inside a transaction, and an engine that was configured
        # twice has two of these listeners.
        if not driver.in_transaction and not _is_autocommit(connection):
            connection.exec_driver_sql(f"BEGIN {begin}")

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    return engine


def _check(
    engine: AsyncEngine, begin: str, journal_mode: str, busy_timeout: float
) -> None:
    if engine.dialect.name != "sqlite":
        msg = f"{engine!r} is not SQLite; only SQLite engines need this"
        raise ValueError(msg)
    for name, value, known in (
        ("begin", begin, get_args(Begin)),
        ("journal_mode", journal_mode, get_args(JournalMode)),
    ):
        if value not in known:
            msg = f"{name} is {value!r}; give one of {', '.join(known)}"
            raise ValueError(msg)
    if busy_timeout < 0:
        msg = f"busy_timeout is {busy_timeout}; give seconds, 0 or more"
        raise ValueError(msg)


async def _pause(_: Any) -> None:
    await asyncio.sleep(0.01)


def _has_set_journal_mode(cursor: Any, journal_mode: str, deadline: float) -> bool:
    # SQLite does not wait here for another connection that writes or that changes the
    # mode itself, whatever the busy timeout: two processes that start on one new file
    # would meet "database is locked".
    try:
        cursor.execute(f"PRAGMA journal_mode = {journal_mode}")
    except sqlite3.OperationalError as error:
        is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        if not is_busy or time.monotonic() > deadline:
            raise
        return False
    return True


def _is_autocommit(connection: Connection) -> bool:
    options = connection.get_execution_options()
    return bool(options.get("isolation_level") == "AUTOCOMMIT")
