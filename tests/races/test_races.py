"""Real rivals: tasks, and processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import processes
import pytest
import storm
from backends import on_postgres, on_sqlite
from models import Base, Tag
from sqlalchemy import StaticPool, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from async_goc import get_or_create, sqlite
from async_goc._call.policy import Strategy

pytestmark = pytest.mark.heavy


@pytest.fixture
async def wide_engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with a connection for every task."""
    engine = storm.make_engine(url)
    yield engine
    await engine.dispose()


async def names(engine: AsyncEngine) -> list[str]:
    async with AsyncSession(engine) as session:
        return sorted(await session.scalars(select(Tag.name)))


@on_postgres
async def test_storm(wide_engine: AsyncEngine, strategy: Strategy) -> None:
    """30 keys x 20 tasks: 600 of 600 succeed, 30 rows are created, once each.

    Fails without `begin_nested` in `_guarded`, and without `look` in `find_rival`.
    """
    result = await storm.storm(wide_engine, 30, 20, strategy)
    assert result["calls"] == 600
    assert set(result["created"].values()) == {1}
    assert len(await names(wide_engine)) == 30


@pytest.mark.parametrize(
    ("backend", "strategy"),
    [
        ("sqlite+aiosqlite", "native"),
        ("postgresql+asyncpg", "native"),
        ("postgresql+psycopg", "savepoint"),
        ("mysql+asyncmy", "native"),
        ("mysql+aiomysql", "savepoint"),
        ("mysql+asyncmy on mysql_9", "savepoint"),
    ],
    indirect=True,
)
async def test_storm_of_processes(
    url: str, wide_engine: AsyncEngine, strategy: Strategy
) -> None:
    """The same from 4 processes at once; created is True once per key, over all.

    Fails on SQLite without `begin` in `configure`: a reader cannot become a writer.
    """
    tasks = 5 if url.startswith("sqlite") else 10
    keys = 10 if url.startswith("sqlite") else 20
    call = (url, keys, tasks, strategy)
    results = await processes.at_once(storm, *[call] * 4)
    assert sum(result["calls"] for result in results) == 4 * tasks * keys
    created: Counter[str] = Counter()
    for result in results:
        created.update(result["created"])
    assert set(created.values()) == {1}
    assert len(await names(wide_engine)) == keys


async def ask_at_once(engine: AsyncEngine, *, is_same: bool) -> None:
    """Let 16 tasks create one tag, or one each."""
    sessions = async_sessionmaker(engine)
    start = asyncio.Barrier(16)

    async def call(number: int) -> bool:
        await start.wait()
        async with sessions.begin() as session:
            name = "same" if is_same else f"tag {number}"
            _, created = await get_or_create(session, Tag, name=name)
        return created

    created = await asyncio.gather(*map(call, range(16)))
    assert sum(created) == len(await names(engine)) == (1 if is_same else 16)


@on_sqlite
@pytest.mark.parametrize("is_configured", [True, False])
@pytest.mark.parametrize("is_same", [True, False], ids=["same key", "distinct keys"])
async def test_sqlite_writers_queue(
    url: str, is_same: bool, is_configured: bool
) -> None:
    """16 tasks on a file: no "database is locked", with SQLite's own patience."""
    engine = create_async_engine(url)
    if is_configured:
        sqlite.configure(engine)
    await ask_at_once(engine, is_same=is_same)
    await engine.dispose()


@pytest.mark.parametrize("is_same", [True, False], ids=["same key", "distinct keys"])
@pytest.mark.filterwarnings("ignore::async_goc.exceptions.SqliteTransactionWarning")
async def test_sqlite_sessions_share_one_connection(is_same: bool) -> None:
    """16 tasks in memory: one transaction after the other on the only connection.

    Fails without `looks_first` in `find_or_create`.
    """
    engine = sqlite.configure(create_async_engine("sqlite+aiosqlite://"))
    assert isinstance(engine.pool, StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await ask_at_once(engine, is_same=is_same)
    await engine.dispose()
