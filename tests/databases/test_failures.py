"""What each error of a real server means, on each driver: by its code."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import failures
import pytest
import stopping
from _pytest.mark import ParameterSet
from backends import BACKENDS, MARIADB, MARIADB_11, MYSQL_9, POSTGRES, tables_of
from failures import Place, Provoke, at, in_savepoint, sending, while_locked
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
    ProgrammingError,
)
from sqlalchemy.ext.asyncio import AsyncSession
from stopping import stopped

from async_goc._databases.errors import (
    asks_to_run_again,
    code_of,
    end_of_transaction,
    has_lost_connection,
    is_answer,
    is_changed_since_snapshot,
    is_duplicate_key,
    is_serialization_failure,
)

QUESTIONS = {
    "duplicate": is_duplicate_key,
    "again": asks_to_run_again,
    "lost": has_lost_connection,
    "answer": is_answer,
    "serialization": is_serialization_failure,
    "changed": is_changed_since_snapshot,
    "ended": end_of_transaction,
}
Code = str | int | None
OpenPlace = Callable[[str], Coroutine[Any, Any, Place]]
Kinds = dict[str, type[DBAPIError]]

UNIQUE = "answer duplicate"
AGAIN = "again answer"
INTEGRITY: Kinds = {"any": IntegrityError}
OPERATIONAL: Kinds = {"asyncpg": DBAPIError, "any": OperationalError}
# What InnoDB finds wrong with a value.
VALUE: Kinds = {"innodb": OperationalError, "any": IntegrityError}
DATA: Kinds = {"asyncpg": DBAPIError, "any": DataError}
INTERNAL: Kinds = {"asyncpg": DBAPIError, "any": InternalError}
SYNTAX: Kinds = {"sqlite": OperationalError, "any": ProgrammingError}

EMPTY = "CREATE TEMPORARY TABLE t (id int PRIMARY KEY, name varchar(9))"
TWICE = "INSERT INTO t VALUES (1, 'a');\nINSERT INTO t VALUES (2, 'a')"
THING = "INSERT INTO failing_thing (id, size, name, thing) VALUES"
WRITE = failures.WRITE.format(1)


@dataclass(frozen=True)
class Row:
    """A failure, and what is said of it.

    Attributes:
        provoke: How to bring it about.
        says: The questions that are answered by yes.
        kinds: {driver, server or database: SQLAlchemy's class}.
        codes: {driver, server or database: its code}; where none is given, there is no
            such failure.
    """

    name: str
    provoke: Provoke
    says: str
    kinds: Kinds
    codes: dict[str, Code]


def row(
    name: str, provoke: Provoke | str, says: str, kinds: Kinds, **codes: Code
) -> Row:
    """A row; where *provoke* is statements, the last of them fails."""
    how = sending(provoke) if isinstance(provoke, str) else provoke
    return Row(name, how, says, kinds, codes)


ROWS = [
    row("primary key", f"{THING} (1, 1, NULL, NULL)", UNIQUE, INTEGRITY,
        postgresql="23505", sqlite=1555, innodb=1062),
    row("unique constraint", f"{THING} (9, 1, 'n1', NULL)", UNIQUE, INTEGRITY,
        postgresql="23505", sqlite=2067, innodb=1062),
    row("unique index", f"{EMPTY};\nCREATE UNIQUE INDEX i ON t (name);\n{TWICE}",
        UNIQUE, INTEGRITY, postgresql="23505", sqlite=2067),
    row("partial index",
        f"{EMPTY};\nCREATE UNIQUE INDEX i ON t (name) WHERE id > 0;\n{TWICE}",
        UNIQUE, INTEGRITY, postgresql="23505", sqlite=2067),
    row("index on an expression",
        f"{EMPTY};\nCREATE UNIQUE INDEX i ON t ((lower(name)));\n{TWICE}",
        UNIQUE, INTEGRITY, postgresql="23505", sqlite=2067, mysql=1062),
    row("one of many rows", failures.many_rows, UNIQUE, INTEGRITY,
        postgresql="23505", sqlite=1555, innodb=1062),
    row("of a trigger", failures.of_a_trigger, UNIQUE, INTEGRITY,
        postgresql="23505", sqlite=1555, innodb=1062),
    row("unique at COMMIT",
        "CREATE TEMPORARY TABLE t (id int, name text UNIQUE DEFERRABLE INITIALLY "
        f"DEFERRED);\n{TWICE};\nCOMMIT", UNIQUE, INTEGRITY, postgresql="23505"),
    row("RAISE", "DO $$ BEGIN RAISE unique_violation; END $$", UNIQUE, INTEGRITY,
        postgresql="23505"),
    row("exclusion",
        "CREATE TEMPORARY TABLE t (id int, name text, EXCLUDE USING gist "
        f"((box(point(1, id), point(1, 9))) WITH &&));\n{TWICE}", UNIQUE, INTEGRITY,
        postgresql="23P01"),
    row("foreign key", f"{THING} (9, 1, NULL, 77)", "answer", INTEGRITY,
        postgresql="23503", sqlite=787, innodb=1452),
    row("NULL", f"{THING} (9, NULL, NULL, NULL)", "answer", INTEGRITY,
        postgresql="23502", sqlite=1299, innodb=1048),
    row("no value", "INSERT INTO failing_thing (id) VALUES (9)", "answer", VALUE,
        postgresql="23502", sqlite=1299, innodb=1364),
    row("CHECK", f"{THING} (9, 99, NULL, NULL)", "answer", VALUE,
        postgresql="23514", sqlite=275, mariadb=4025, mysql=3819),
    row("length", f"{THING} (9, 1, 'a long name', NULL)", "answer", DATA,
        postgresql="22001", innodb=1406),
    row("RAISE(ABORT)",
        "CREATE TEMPORARY TRIGGER t BEFORE INSERT ON failing_thing BEGIN SELECT "
        f"RAISE(ABORT, 'no'); END;\n{THING} (9, 1, NULL, NULL)", "answer", INTEGRITY,
        sqlite=1811),
    row("type", "CREATE TEMPORARY TABLE t (id int) STRICT;\nINSERT INTO t VALUES ('a')",
        "answer", INTEGRITY, sqlite=3091),
    row("no constraint for ON CONFLICT",
        f"{EMPTY};\nINSERT INTO t VALUES (1, 'a') ON CONFLICT (name) DO NOTHING",
        "answer", SYNTAX, postgresql="42P10", sqlite=1),
    row("a deferrable one for ON CONFLICT",
        "CREATE TEMPORARY TABLE t (id int UNIQUE DEFERRABLE);\n"
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO NOTHING",
        "answer", OPERATIONAL, postgresql="55000"),
    row("syntax", "SELECT FROM WHERE", "answer", SYNTAX, postgresql="42601", sqlite=1,
        innodb=1064),
    row("changed row", at("REPEATABLE READ", failures.stale_write),
        f"{AGAIN} serialization", OPERATIONAL, postgresql="40001"),
    row("changed row, if asked", at("REPEATABLE READ", failures.stale_lock),
        f"{AGAIN} changed ended", OPERATIONAL, mariadb=1020),
    row("write skew", at("SERIALIZABLE", failures.write_skew),
        f"{AGAIN} serialization", OPERATIONAL, postgresql="40001"),
    row("deadlock", failures.deadlock, AGAIN, OPERATIONAL, postgresql="40P01"),
    row("deadlock, which ends all", failures.deadlock, f"{AGAIN} ended", OPERATIONAL,
        innodb=1213),
    row("deadlock in a SAVEPOINT", in_savepoint(failures.deadlock), f"{AGAIN} ended",
        OPERATIONAL, innodb=1305),
    row("changed row in a SAVEPOINT",
        at("REPEATABLE READ", in_savepoint(failures.stale_lock)), f"{AGAIN} ended",
        OPERATIONAL, mariadb=1305),
    row("lock_timeout", while_locked(f"SET LOCAL lock_timeout = 20;\n{WRITE}"),
        "answer", OPERATIONAL, postgresql="55P03"),
    row("innodb_lock_wait_timeout",
        while_locked(f"SET STATEMENT innodb_lock_wait_timeout = 0 FOR {WRITE}"),
        AGAIN, OPERATIONAL, mariadb=1205),
    row("innodb_lock_wait_timeout of a second",
        while_locked(f"SET innodb_lock_wait_timeout = 1;\n{WRITE}"),
        AGAIN, OPERATIONAL, mysql=1205),
    row("NOWAIT", while_locked(f"{failures.READ} FOR UPDATE NOWAIT"), "answer",
        OPERATIONAL, postgresql="55P03", mysql=3572),
    row("NOWAIT, as a timeout", while_locked(f"{failures.READ} FOR UPDATE NOWAIT"),
        AGAIN, OPERATIONAL, mariadb=1205),
    row("statement_timeout", "SET LOCAL statement_timeout = 20;\nSELECT pg_sleep(9)",
        "answer", OPERATIONAL, postgresql="57014"),
    row("max_statement_time",
        "SET STATEMENT max_statement_time = 0.02 FOR SELECT sleep(9)",
        "answer", OPERATIONAL, mariadb=1969),
    row("cancelled", stopped("SELECT pg_cancel_backend({})"), "answer", OPERATIONAL,
        postgresql="57014"),
    row("KILL QUERY", stopped("KILL QUERY {}"), "answer", OPERATIONAL,
        innodb=1317),
    row("failed transaction", failures.after_an_error, "answer", INTERNAL,
        postgresql="25P02"),
    row("SAVEPOINT in AUTOCOMMIT", at("AUTOCOMMIT", sending("SAVEPOINT a")),
        "answer", INTERNAL, postgresql="25P01"),
    row("a SAVEPOINT that is gone",
        at("AUTOCOMMIT", sending("SAVEPOINT a;\nRELEASE SAVEPOINT a")),
        "answer", OPERATIONAL, innodb=1305),
    row("read-only", f"SET TRANSACTION READ ONLY;\n{WRITE}", "answer", INTERNAL,
        postgresql="25006"),
    row("terminated", stopped("SELECT pg_terminate_backend({})"), "lost", OPERATIONAL,
        asyncpg="08003", psycopg="57P01"),
    row("terminated while idle",
        stopped("SELECT pg_terminate_backend({})", is_idle=True), "lost",
        {"asyncpg": InterfaceError, "psycopg": OperationalError},
        asyncpg=None, psycopg="57P01"),
    row("idle_in_transaction_session_timeout", stopping.idle_for_too_long, "lost",
        {"asyncpg": InterfaceError, "psycopg": InternalError},
        asyncpg=None, psycopg="25P03"),
    row("KILL", stopped("KILL {}"), "lost", OPERATIONAL, innodb=2013),
    row("KILL while idle", stopped("KILL {}", is_idle=True), "lost", OPERATIONAL,
        asyncmy=2006, aiomysql=2013),
    row("another writer", failures.busy, AGAIN, OPERATIONAL, sqlite=5),
    row("an old snapshot", failures.busy_snapshot, AGAIN, OPERATIONAL, sqlite=517),
    row("a shared cache", failures.shared_cache, AGAIN, OPERATIONAL, sqlite=262),
]  # fmt: skip


def found(values: dict[str, Any], backend: str) -> Any:
    """What is given for the driver, else for the server, and so on."""
    url, _, server = backend.partition(" on ")
    database, driver = url.split("+")
    if database == "mysql":
        server, database = server.partition("_")[0] or "mariadb", "innodb"
    names = (driver, server, database, "any")
    return next((values[name] for name in names if name in values), ...)


def cases() -> Iterator[Any]:
    for each in [*BACKENDS, *MARIADB[:2], *MARIADB_11, *MYSQL_9]:
        parameters = each if isinstance(each, ParameterSet) else pytest.param(each)
        (backend,) = parameters.values
        for row in ROWS:
            if found(row.codes, backend) is not ...:
                name = f"{backend}, {row.name}"
                yield pytest.param(backend, row, marks=parameters.marks, id=name)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def database(backend: str, request: pytest.FixtureRequest) -> Iterator[URL]:
    """A database that has what the rows are about."""
    if backend.startswith("sqlite"):
        path = (
            request.getfixturevalue("tmp_path_factory").mktemp("failures") / "test.db"
        )
        engine = create_engine(f"sqlite:///{path}")
    else:
        engine = request.getfixturevalue(tables_of(backend))
    with engine.begin() as connection:
        failures.fill(connection)
    yield engine.url.set(drivername=backend.partition(" ")[0])
    failures.METADATA.drop_all(engine)
    engine.dispose()


@pytest.fixture(scope="module")
async def open_place(request: pytest.FixtureRequest) -> AsyncIterator[OpenPlace]:
    """A function that makes ready for a backend, the first time that it is asked."""
    places: dict[str, Place] = {}
    async with AsyncExitStack() as stack:

        async def open_place(backend: str) -> Place:
            if backend not in places:
                url = stack.enter_context(database(backend, request))
                place = failures.place(backend, url)
                places[backend] = await stack.enter_async_context(place)
            return places[backend]

        yield open_place


@pytest.mark.parametrize(("backend", "row"), list(cases()))
async def test_failures(open_place: OpenPlace, backend: str, row: Row) -> None:
    """A real error has that class and that code, and means just that.

    Fails without `errno` in `Codes.__contains__`, and without `_CONSEQUENCE` in
    `_reasons`.
    """
    place = await open_place(backend)
    try:
        with pytest.raises(DBAPIError) as raised:
            await row.provoke(place)
        error = raised.value
    finally:
        await place.one.rollback()
        await place.two.rollback()
    assert type(error) is found(row.kinds, backend)
    assert code_of(error) == found(row.codes, backend)
    answers = {name for name, asks in QUESTIONS.items() if asks(error)}
    assert answers == set(row.says.split())


@pytest.mark.parametrize("backend", [*POSTGRES, *MARIADB[:2]])
async def test_a_cancelled_statement(open_place: OpenPlace, backend: str) -> None:
    """It raises no error of the database's; the session then wants a rollback."""
    place = await open_place(backend)
    async with AsyncSession(place.engine) as session:
        await session.connection()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await session.execute(text(stopping.slow(backend)))
        with pytest.raises(PendingRollbackError):
            await session.execute(text("SELECT 1"))
        await session.rollback()
        assert await session.scalar(text("SELECT 1")) == 1
