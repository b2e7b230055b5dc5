"""Give SQLite real transactions, and the settings a concurrent program wants."""

import asyncio
import os
import sqlite3
import time
from typing import Any, Literal, get_args

from sqlalchemy import Engine, StaticPool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from ._databases import find_writer, mark_as_reader, writer_of

__all__ = ["configure", "reading"]

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
        begin: ``"IMMEDIATE"`` takes the write lock at the start: the transactions of
            an event loop take turns there, first come, first served, and none fails
            later because another one has written since it read. ``"DEFERRED"`` takes
            no turn; for readers beside a writer, :func:`reading` is better.
        journal_mode: ``"WAL"`` lets readers and a writer work at the same time. The
            mode is stored in the database file.
        busy_timeout: Seconds to wait for the lock of another process before "database
            is locked"; and seconds for which one transaction of this process may keep
            the others waiting before they ask SQLite, too.
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

    event.listen(engine.sync_engine, "connect", on_connect)
    writer = writer_of(engine.sync_engine)
    writer.statement, writer.limit = f"BEGIN {begin}", busy_timeout
    return engine


def reading(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine for the same file that only reads, and waits for no writer.

    Each of its transactions sees the database as it was at its first statement; with
    ``journal_mode="WAL"``, it reads beside a writer. It suits whatever does not write:
    GET handlers, reports. A write through it is the database's own error, with a note
    that says what to do.

    It has a pool of its own, of the same size and with the same settings, because the
    connections of *engine* may all be in use by transactions that wait for their turn
    to write. It is disposed of with *engine*. Listeners on *engine* are not its own,
    but its execution options are. However often this is called, *engine* and its copies
    with other execution options have one such pool.

    Args:
        engine: An engine with the ``sqlite+aiosqlite`` dialect and a database file,
            configured by :func:`configure`.

    Returns:
        The engine that reads.

    Raises:
        ValueError: The engine is not SQLite, or was not configured, or its database is
            in memory, where all sessions share one connection, or each connection has a
            database of its own.
    """
    _check_file(engine)
    writer = find_writer(engine.sync_engine)
    if writer is None or writer.statement is None:
        # Its reader would never have the settings of a later call of configure().
        msg = f"{engine!r} was not configured; call async_goc.sqlite.configure() first"
        raise ValueError(msg)
    if writer.reader is None:
        _heed_disposals()
        writer.reader = _make_reader(engine.sync_engine)
        writer.reader_process = os.getpid()
    options = engine.sync_engine.get_execution_options()
    return AsyncEngine(writer.reader.execution_options(**options))


def _check_file(engine: AsyncEngine) -> None:
    if engine.dialect.name != "sqlite":
        msg = f"{engine!r} is not SQLite; only SQLite has one writer to get past"
        raise ValueError(msg)
    url = engine.url
    is_in_memory = (
        isinstance(engine.pool, StaticPool)
        or url.database in {None, "", ":memory:", "file::memory:"}
        or url.query.get("mode") == "memory"
    )
    if is_in_memory:
        msg = f"{engine!r} has no file that others can read; use a database file"
        raise ValueError(msg)


def _make_reader(engine: Engine) -> Engine:
    pool = engine.pool.recreate()
    echo: Any = engine.echo

    def on_connect(connection: Any, entry: ConnectionPoolEntry) -> None:
        mark_as_reader(entry.info)
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    def on_error(context: ExceptionContext) -> None:
        code = getattr(context.original_exception, "sqlite_errorcode", 0)
        is_ours = context.engine is not None and context.engine.pool is reader.pool
        error = context.sqlalchemy_exception
        if is_ours and error is not None and code & 0xFF == sqlite3.SQLITE_READONLY:
            error.add_note(
                "async_goc.sqlite.reading() made this engine, and it only reads; "
                "write through the engine that was given to it"
            )

    event.listen(pool, "connect", on_connect)
    reader = Engine(
        pool,
        engine.dialect,
        engine.url,
        echo=echo,
        hide_parameters=engine.hide_parameters,
    )
    event.listen(engine, "handle_error", on_error)

    return reader


def _heed_disposals() -> None:
    # For all engines, because a listener on a copy with other execution options would
    # not hear of the original. Only where there is a reader: SQLAlchemy executes every
    # statement in another, slower way once anything listens to all engines.
    if not event.contains(Engine, "engine_disposed", _dispose_reader):
        event.listen(Engine, "engine_disposed", _dispose_reader)


def _dispose_reader(engine: Engine) -> None:
    writer = find_writer(engine)
    if writer is None or writer.reader is None or writer.reader.pool is engine.pool:
        return
    # A child process lets go of its parent's connections without closing them.
    writer.reader.dispose(close=os.getpid() == writer.reader_process)
    writer.reader_process = os.getpid()


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
