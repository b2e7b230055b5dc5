"""Say how each driver sends one statement in autocommit."""

import sqlite3
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.engine import Dialect
from sqlalchemy.util import await_only

from .direct import Lane, NoConnectionError, NoLaneError, Rows, Wire, shielded
from .facts import facts_of
from .writer import find_writer


def lane_of(engine: Engine) -> Lane | None:
    """Return the direct way to the database, if there is one."""
    dialect = engine.dialect
    if facts_of(dialect).has_one_writer:
        # Where the driver begins transactions, they have no turn.
        writer = find_writer(engine)
        if writer is None or writer.statement is None:
            return None
    return _LANES.get(dialect.driver) if dialect.is_async else None


# Where asyncpg keeps how it was configured; there is no public way to ask. Without it,
# poolers are not known.
CONFIG: Final = "_config"

# asyncpg. SQLAlchemy's adapter begins a transaction in its own cursor only, so the
# driver's own methods are in autocommit, and the pool has nothing to roll back. The
# driver keeps its prepared statements itself, by their texts.


def _send_by_asyncpg(
    _: Dialect, pooled: PoolProxiedConnection, wire: Wire, values: Sequence[Any]
) -> Rows:
    driver: Any = pooled.driver_connection
    if driver.is_closed():
        raise NoConnectionError  # It has ended in the pool, and nothing is sent.
    rows: Rows
    if wire.types is None:
        _check_statements(driver, pooled, wire)
        rows, wire.types = await_only(_prepare_and_fetch(driver, wire.text, values))
    else:
        rows = await_only(driver.fetch(wire.text, *values))
    return rows


def _check_statements(driver: Any, pooled: PoolProxiedConnection, wire: Wire) -> None:
    """Refuse to prepare where the engine has been told of a pooler."""
    # Such a pooler gives each transaction another server connection. To prepare a
    # statement, and to execute it, would then be two, and the other connection may have
    # another program's statement without a name, or by the same name.
    if statement_cache_size(driver) == 0 or wire.is_refused_by(pooled.dbapi_connection):
        raise NoLaneError


def statement_cache_size(driver: object) -> int | None:
    """Return how many prepared statements asyncpg keeps, if that is to be known."""
    return getattr(getattr(driver, CONFIG, None), "statement_cache_size", None)


async def _prepare_and_fetch(
    driver: Any, text: str, values: Sequence[Any]
) -> tuple[Rows, Sequence[Any]]:
    prepared = await driver.prepare(text)
    types = [attribute.type.oid for attribute in prepared.get_attributes()]
    return await prepared.fetch(*values), types


def _is_asyncpg_alive(
    _: Dialect, pooled: PoolProxiedConnection, error: BaseException
) -> bool:
    driver: Any = pooled.driver_connection
    # A timeout of the driver's may have come after the statement was done.
    is_lost = isinstance(error, (OSError, TimeoutError)) or driver.is_closed()
    return isinstance(error, Exception) and not is_lost


# psycopg. Autocommit is a flag of its connection, and to set it sends nothing.


def _send_by_cursor(
    _: Dialect, pooled: PoolProxiedConnection, wire: Wire, values: Sequence[Any]
) -> Rows:
    connection: Any = pooled.dbapi_connection
    if _has_ended(pooled.driver_connection):
        raise NoConnectionError  # Nothing is sent.
    connection.autocommit = True
    try:
        cursor = connection.cursor()
        try:
            parameters: Any = values
            if wire.names is not None:
                parameters = dict(zip(wire.names, values, strict=True))
            cursor.execute(wire.text, parameters)
            rows: Rows = cursor.fetchall()
            wire.types = [column[1] for column in cursor.description]
        finally:
            cursor.close()
    except Exception:
        # (What is cancelled loses its connection, and so does what broke.)
        if not connection.closed:
            with shielded():
                connection.autocommit = False
        raise
    connection.autocommit = False
    return rows


def _has_ended(driver: Any) -> bool:
    """Whether the server has ended the connection while nobody used it."""
    # Nothing reads from it in the pool. This does, without waiting: first what the
    # server has said of the end, if anything, and then the end.
    try:
        driver.pgconn.consume_input()
        driver.pgconn.consume_input()
    except driver.OperationalError:
        return True
    return False


def _is_cursor_alive(
    dialect: Dialect, pooled: PoolProxiedConnection, error: Any
) -> bool:
    dbapi: Any = dialect.dbapi
    is_lost = isinstance(error, (OSError, TimeoutError, NoConnectionError)) or (
        isinstance(error, dbapi.Error)
        and dialect.is_disconnect(error, pooled.dbapi_connection, None)
    )
    return isinstance(error, Exception) and not is_lost


# aiosqlite, on a connection that begins no transaction by itself. To read a row that is
# committed takes no lock of the writer's.


def _send_by_aiosqlite(
    _: Dialect, pooled: PoolProxiedConnection, wire: Wire, values: Sequence[Any]
) -> Rows:
    driver: Any = pooled.driver_connection
    rows: Rows = await_only(driver.execute_fetchall(wire.text, values))
    if rows:
        wire.types = (None,) * len(rows[0])
    return rows


def _is_aiosqlite_alive(
    _: Dialect, __: PoolProxiedConnection, error: BaseException
) -> bool:
    # What is cancelled comes to its end in the connection's thread, and has no effect:
    # it reads. Whatever uses the connection next waits for that. (Integers that are too
    # long, and halves of surrogate pairs, are refused by Python itself.)
    refused = (sqlite3.Error, OverflowError, UnicodeError)
    return isinstance(error, (*refused, CancelledError))


_LANES: Final[Mapping[str, Lane]] = {
    "aiosqlite": Lane("driver", _send_by_aiosqlite, _is_aiosqlite_alive),
    "asyncpg": Lane("driver", _send_by_asyncpg, _is_asyncpg_alive),
    "psycopg": Lane("cursor", _send_by_cursor, _is_cursor_alive),
}
