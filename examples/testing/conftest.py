"""Fixtures for a program that uses get_or_create: take what you need.

    pytest examples/testing
    TEST_DATABASE_URL=postgresql+asyncpg://me@localhost/test pytest examples/testing
    pytest -c examples/testing/anyio.ini examples/testing

There are two kinds of tests, and neither sees rows of another test:

* Most take ``session``, or ``sessions``. All of it happens in a transaction that is
  rolled back after the test, so the program may commit as it likes, and nothing has to
  be cleaned up. It has one connection, which does one thing at a time.
* Races take ``real_sessions``, a connection for each session: rivals must see each
  other's COMMITs. They are real ones, so the tables are emptied afterwards.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from bookmarks import Base
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from async_goc import sqlite
from async_goc.testing import assert_nothing_held, rolled_back


@pytest.fixture
def anyio_backend() -> str:
    """Only anyio's plugin asks for it: the drivers need asyncio."""
    return "asyncio"


def make_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        # Without it, sqlite3 begins no transaction before a SAVEPOINT, and a rollback
        # undoes nothing; rolled_back() refuses such an engine.
        sqlite.configure(engine)
    return engine


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with our tables, made once."""
    # A file: the sessions of a database in memory share one connection.
    file = tmp_path_factory.mktemp("database") / "test.db"
    url = os.environ.get("TEST_DATABASE_URL", f"sqlite+aiosqlite:///{file}")

    async def run(*steps: str) -> None:
        engine = make_engine(url)
        async with engine.begin() as connection:
            for step in steps:
                await connection.run_sync(getattr(Base.metadata, step))
        await engine.dispose()

    # Not a coroutine: it would need a loop that lasts as long as all tests.
    asyncio.run(run("drop_all", "create_all"))
    yield url
    asyncio.run(run("drop_all"))


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine for one test.

    Each test runs in a loop of its own, and connections belong to the loop that has
    opened them. So do the queues in which calls for the same row wait: the process has
    one registry, every loop its own queues in it.
    """
    engine = make_engine(url)
    yield engine
    await engine.dispose()


@pytest.fixture(autouse=True)
async def nothing_is_held() -> AsyncIterator[None]:
    """Fail a test that leaves a transaction open, or a call waiting for one."""
    yield
    # It comes first, so it ends last: all sessions are closed.
    assert_nothing_held()


@pytest.fixture
async def sessions(
    engine: AsyncEngine,
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions whose work is rolled back, one after the other."""
    async with rolled_back(engine) as sessions:
        yield sessions


@pytest.fixture
async def session(
    sessions: async_sessionmaker[AsyncSession],
) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


@pytest.fixture
async def real_sessions(
    engine: AsyncEngine,
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions with a connection each."""
    yield async_sessionmaker(engine, expire_on_commit=False)
    async with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            await connection.execute(table.delete())
