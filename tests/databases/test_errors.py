"""What is not to be had from a server, or only after long: errors by their codes."""

import sqlite3
from typing import Any

import aiomysql
import psycopg
import pytest
from asyncmy.errors import OperationalError as AsyncmyError
from backends import on_postgres
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

each_kind = pytest.mark.parametrize(
    "kind", [AsyncmyError, aiomysql.OperationalError], ids=["asyncmy", "aiomysql"]
)


@on_postgres
@pytest.mark.parametrize(
    ("values", "expected"), [({"id": -1}, "tag_pkey"), ({"name": "x"}, "tag_name_key")]
)
async def test_constraints_have_their_names(
    engine: AsyncEngine, values: dict[str, Any], expected: str
) -> None:
    """Each driver has the names of constraint and table in a place of its own."""
    # An id that the sequence does not come to.
    async with engine.connect() as connection:
        await connection.execute(insert(Tag).values(id=-1, name="x"))
        with pytest.raises(IntegrityError) as raised:
            await connection.execute(insert(Tag).values({"name": "y", **values}))
    assert violation(raised.value).constraint == expected
    assert violation(raised.value).table == "tag"


@each_kind
@pytest.mark.parametrize(
    ("arguments", "meaning"),
    [
        ((1586, "Duplicate entry 'x' for key 'uq_k'"), "duplicate"),
        ((1047, "WSREP has not yet prepared node for application use"), "again"),
        ((1927, "Connection was killed"), "lost"),
        ((0, "Not connected"), "lost"),
        ((), None),
        (("(0, 'Not connected')",), None),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) and value else None,
)
def test_mysql_numbers(
    kind: type[Exception], arguments: tuple[object, ...], meaning: str | None
) -> None:
    """MariaDB's and MySQL's drivers carry the number as the first argument."""
    error = DBAPIError("UPDATE", None, kind(*arguments))
    assert is_duplicate_key(error) is (meaning == "duplicate")
    assert asks_to_run_again(error) is (meaning == "again")
    assert has_lost_connection(error) is (meaning == "lost")
    has_code = bool(arguments) and isinstance(arguments[0], int)
    assert code_of(error) == (arguments[0] if has_code else None)
    assert is_answer(error) is (has_code and meaning != "lost")
    assert violation(error).constraint is None


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


@each_kind
def test_a_deadlock_behind_a_lost_savepoint(kind: type[Exception]) -> None:
    """MariaDB's deadlock ends the transaction; its savepoint is then said to be gone.

    Fails without `_CONSEQUENCE` in `_reasons`.
    """
    assert asks_to_run_again(chained(kind(*DEADLOCK), kind(*GONE), kind(*GONE)))
    assert not asks_to_run_again(chained(kind(*GONE)))
    # What was handled before a new error does not explain it.
    assert not asks_to_run_again(chained(kind(*DEADLOCK), kind(1064, "syntax")))
    loop = chained(kind(*GONE))
    loop.__context__ = loop
    assert not asks_to_run_again(loop)


@pytest.mark.parametrize(
    ("code", "again"), [(261, True), (773, True), (6, True), (19, False)]
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


@pytest.mark.parametrize("code", ["08006", "40003", "57P02"])
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
