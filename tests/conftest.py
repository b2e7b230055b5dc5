import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import filled
import innodb
import models
import psycopg
import pytest
import servers
import slippery
import steps
import vague
import wide
from backends import BACKENDS, PSYCOPG, Sessions, tables_of
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from waiting import Clock

from async_goc import KeyedLocks, Policy, Stats, sqlite

METADATA = [module.Base.metadata for module in (models, slippery, wide, filled, vague)]


# No server of ours speaks TLS, and asking for it takes time with each connection.
os.environ.setdefault("PGSSLMODE", "disable")
os.environ.setdefault("PGGSSENCMODE", "disable")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector look at what tests make, and not at all modules."""
    gc.disable()
    try:
        return (yield)
    finally:
        steps.cheap_collections()
        # A fifth of the collections takes a fifth of the time.
        gc.set_threshold(5 * gc.get_threshold()[0])
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave one of the two drivers for PostgreSQL to the heavy run where it may be.

    That is where the test says so, and where the other driver has both strategies.
    """
    values = item.callspec.params if hasattr(item, "callspec") else {}
    is_marked = item.get_closest_marker("one_driver") is not None
    if values.get("backend") != PSYCOPG:
        return
    if is_marked or values.get("strategy") == "native":
        item.add_marker(pytest.mark.heavy)


@pytest.fixture(scope="module")
def cheap_collections() -> None:
    """For tests that collect often: what is there before them is left out."""
    steps.cheap_collections()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The dialect and driver; tests for some of them parametrize it indirectly."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL with a database ``goc_test``: user@host:port."""
    given = os.environ.get("ASYNC_GOC_TEST_POSTGRES")
    with servers.given(given) if given else servers.postgres() as where:
        default = f"postgresql://{where}/postgres"
        with psycopg.connect(default, autocommit=True) as admin:
            admin.execute("DROP DATABASE IF EXISTS goc_test WITH (FORCE)")
            admin.execute("CREATE DATABASE goc_test")
        yield where


def create_tables(connection: Connection) -> None:
    for metadata in METADATA:
        metadata.create_all(connection)


def deletes() -> str:
    """The statements that empty all tables."""
    tables = [t for metadata in METADATA for t in reversed(metadata.sorted_tables)]
    return ";".join(str(table.delete()) for table in tables)


# A busy server may yet have to execute a statement whose caller is gone, and its row
# would be the next test's. So no connection of a test's outlives it: hardly one does.
ENDING = """
LOOP
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
        AND application_name <> 'tables';
    EXIT WHEN NOT FOUND;
    PERFORM pg_sleep(0.001);
    PERFORM pg_stat_clear_snapshot();
END LOOP;
"""


@pytest.fixture(scope="session")
def tables(server: str) -> Iterator[Engine]:
    """A synchronous engine for the database that has our tables."""
    engine = create_engine(
        f"postgresql+psycopg://{server}/goc_test",
        connect_args={"application_name": "tables"},
    )
    with engine.begin() as connection:
        for name in ("citext", "hstore"):
            connection.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS {name}")
        create_tables(connection)
        # Its statements are planned once, and not after each test.
        connection.exec_driver_sql(
            "CREATE FUNCTION empty_tables() RETURNS void LANGUAGE plpgsql"
            f" AS $$ BEGIN {ENDING} {deletes()}; END $$"
        )
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """A MariaDB: user@host:port."""
    given = os.environ.get("ASYNC_GOC_TEST_MARIADB")
    with servers.given(given) if given else innodb.mariadb() as where:
        yield where


@pytest.fixture(scope="session")
def mariadb_tables(mariadb: str) -> Iterator[Engine]:
    """A synchronous engine for the database that has our tables."""
    with innodb.tables(mariadb) as engine:
        yield engine


@pytest.fixture(scope="session")
def mariadb_11_tables() -> Iterator[Engine]:
    """The same on a MariaDB that refuses to lock what a snapshot does not show."""
    with innodb.fetched_mariadb() as where, innodb.tables(where) as engine:
        yield engine


@pytest.fixture(scope="session")
def mysql_9_tables() -> Iterator[Engine]:
    """The same on MySQL."""
    with innodb.fetched_mysql() as where, innodb.tables(where) as engine:
        yield engine


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database that has our tables, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "test.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        create_tables(connection)
    engine.dispose()
    return path


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with our tables, all empty."""
    fixture = request.getfixturevalue  # A test needs the one database or the other.
    if backend.startswith("sqlite"):
        path = shutil.copy(fixture("file"), fixture("tmp_path"))
        yield f"{backend}:///{path}"
        return
    tables: Engine = fixture(tables_of(backend))
    is_postgres = backend.startswith("postgresql")
    emptying = ["SELECT empty_tables()"] if is_postgres else innodb.deletes()
    driver = backend.partition(" ")[0]
    yield tables.url.set(drivername=driver).render_as_string(hide_password=False)
    with tables.begin() as connection:
        for statement in emptying:
            connection.exec_driver_sql(statement)


@pytest.fixture
def isolation_level() -> str | None:
    """The level of the engine; tests for another than the database's parametrize it."""
    return None


@pytest.fixture
async def engine(url: str, isolation_level: str | None) -> AsyncIterator[AsyncEngine]:
    """An engine as we advise it."""
    settings = {} if isolation_level is None else {"isolation_level": isolation_level}
    engine = create_async_engine(url, **settings)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine, busy_timeout=30)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["savepoint", "native"])
def strategy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The strategy of every policy, whatever it says."""
    name: str = request.param
    if name == "native":
        native = property(lambda _: name, lambda _, __: None)
        monkeypatch.setattr(Policy, "strategy", native)
    return name


@pytest.fixture
def sessions(engine: AsyncEngine, strategy: str) -> Sessions:
    """Tests that use it run once with each strategy."""
    assert Policy().strategy == strategy
    return async_sessionmaker(engine)


@pytest.fixture
async def session(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@pytest.fixture
def statements(engine: AsyncEngine) -> list[str]:
    """The first word of each statement sent from now on, BEGIN aside."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        word, *rest = statement.split()
        if word != "BEGIN":
            sent.append("ROLLBACK TO" if rest[:1] == ["TO"] else word)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return sent


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The loop's clock: however slow the machine is, no limit is over by itself.

    Nor are those of `until()` and `asyncio.timeout()`.
    """
    loop = asyncio.get_running_loop()
    clock = Clock(loop.time())
    monkeypatch.setattr(loop, "time", clock)
    return clock


@pytest.fixture
def locks() -> KeyedLocks:
    """A registry of the test's own."""
    return KeyedLocks()


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def policy(locks: KeyedLocks, stats: Stats) -> Policy:
    """Waits without a limit: a lost grant would be hidden by going on without it."""
    return Policy(locks=locks, observer=stats, wait_timeout=None)
