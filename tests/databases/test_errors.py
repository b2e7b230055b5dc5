"""Which database errors are a lost race: by code, on the real drivers' errors."""

import sqlite3
from typing import Any

import aiomysql
import psycopg
import pytest
from asyncmy.errors import (
    IntegrityError as AsyncmyIntegrityError,
    OperationalError as AsyncmyOperationalError,
)
from models import Tag
from sqlalchemy import insert
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from async_goc._databases.errors import (
    asks_to_run_again,
    code_of,
    has_lost_connection,
    is_answer,
    is_duplicate_key,
    violation,
)


# An id that the sequence does not come to.
async def error_of(engine: AsyncEngine, **values: Any) -> DBAPIError:
    async with engine.connect() as connection:
        await connection.execute(insert(Tag).values(id=-1, name="red", slug="r"))
        with pytest.raises(DBAPIError) as raised:
            await connection.execute(insert(Tag).values(values))
    return raised.value


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"id": -1, "name": "x"}, "tag_pkey"),
        ({"name": "red"}, "tag_name_key"),
        ({"name": "x", "colour": "bad"}, None),
        ({"name": None}, None),
    ],
    ids=["primary key", "unique", "check", "not null"],
)
async def test_drivers(
    engine: AsyncEngine, values: dict[str, Any], expected: str | None
) -> None:
    """Duplicate keys are told from other violations; constraints have their names."""
    error = await error_of(engine, **values)
    assert isinstance(error, IntegrityError)
    assert is_duplicate_key(error) is (expected is not None)
    if engine.dialect.name == "postgresql" and expected is not None:
        assert violation(error).constraint == expected
        assert violation(error).table == "tag"


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (AsyncmyIntegrityError(1062, "Duplicate entry 'x' for key 'uq_k'"), True),
        (AsyncmyIntegrityError(1452, "a foreign key constraint fails"), False),
        (aiomysql.IntegrityError(1586, "Duplicate entry 'x' for key 'uq_k'"), True),
        (aiomysql.IntegrityError(1048, "Column 'x' cannot be null"), False),
        (aiomysql.IntegrityError(), False),
    ],
    ids=["asyncmy", "asyncmy foreign key", "aiomysql", "aiomysql null", "no code"],
)
def test_mysql_codes(cause: Exception, expected: bool) -> None:
    """MariaDB's and MySQL's drivers carry the code as the first argument."""
    error = IntegrityError("INSERT", None, cause)
    assert is_duplicate_key(error) is expected
    assert violation(error).constraint is None


@pytest.mark.parametrize(
    "kind",
    [AsyncmyOperationalError, aiomysql.OperationalError],
    ids=["asyncmy", "aiomysql"],
)
@pytest.mark.parametrize(
    ("arguments", "again", "is_lost"),
    [
        ((1213, "Deadlock found when trying to get lock"), True, False),
        ((1205, "Lock wait timeout exceeded"), True, False),
        ((1020, "Record has changed since last read"), True, False),
        ((1064, "You have an error in your SQL syntax"), False, False),
        ((2013, "Lost connection to MySQL server during query"), False, True),
        ((2006, "MySQL server has gone away"), False, True),
        ((1927, "Connection was killed"), False, True),
        ((0, "Not connected"), False, True),
        ((), False, False),
        (("(0, 'Not connected')",), False, False),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) and value else None,
)
def test_mysql_says_what_another_attempt_helps(
    kind: type[Exception], arguments: tuple[object, ...], again: bool, is_lost: bool
) -> None:
    """By its number, an error of MySQL's asks for another attempt, or ends all."""
    error = DBAPIError("UPDATE", None, kind(*arguments))
    assert asks_to_run_again(error) is again
    assert has_lost_connection(error) is is_lost
    has_code = bool(arguments) and isinstance(arguments[0], int)
    assert code_of(error) == (arguments[0] if has_code else None)
    assert is_answer(error) is (has_code and not is_lost)


def chained(*causes: Exception) -> DBAPIError:
    """The last of several errors, each met while the one before was handled."""
    *before, cause = causes
    if before:
        cause.__context__ = chained(*before)
    error = DBAPIError("RELEASE SAVEPOINT", None, cause)
    error.__cause__ = cause
    return error


GONE = (1305, "SAVEPOINT sa_savepoint_1 does not exist")
DEADLOCK = (1213, "Deadlock found when trying to get lock")


@pytest.mark.parametrize(
    "kind",
    [AsyncmyOperationalError, aiomysql.OperationalError],
    ids=["asyncmy", "aiomysql"],
)
def test_a_deadlock_behind_a_lost_savepoint(kind: type[Exception]) -> None:
    """MariaDB's deadlock ends the transaction; its savepoint is then said to be gone.

    Fails without `_CONSEQUENCE` in `_reasons`.
    """
    assert asks_to_run_again(chained(kind(*DEADLOCK), kind(*GONE)))
    assert asks_to_run_again(chained(kind(*DEADLOCK), kind(*GONE), kind(*GONE)))
    assert not asks_to_run_again(chained(kind(*GONE)))
    # What was handled before a new error does not explain it.
    assert not asks_to_run_again(chained(kind(*DEADLOCK), kind(1064, "syntax")))
    loop = chained(kind(*GONE))
    loop.__context__ = loop
    assert not asks_to_run_again(loop)


@pytest.mark.parametrize(
    ("code", "again"),
    [
        *((5, True), (261, True), (517, True), (773, True)),
        *((6, True), (262, True), (1, False), (19, False), (2067, False)),
    ],
)
def test_sqlite_says_what_another_attempt_helps(code: int, again: bool) -> None:
    """BUSY and LOCKED, with all of their extended codes."""
    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = code
    error = DBAPIError("COMMIT", None, cause)
    assert asks_to_run_again(error) is again
    assert not has_lost_connection(error)
    assert is_answer(error)
    assert not is_answer(cause)


@pytest.mark.parametrize("code", ["08006", "08003", "40003", "57P01", "25P03"])
@pytest.mark.parametrize(
    "kind", [psycopg.OperationalError, AsyncAdapt_asyncpg_dbapi.Error]
)
def test_postgres_says_that_the_connection_ends(kind: Any, code: str) -> None:
    """What ends a connection is no answer, even where it is still taken for open."""
    cause = kind("the connection ends")
    cause.sqlstate = code
    error = DBAPIError("COMMIT", None, cause)
    assert has_lost_connection(error)
    assert not is_answer(error)
    assert not asks_to_run_again(error)
    assert code_of(error) == code
