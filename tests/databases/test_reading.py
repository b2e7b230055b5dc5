"""Engines that only read, beside the one that writes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from backends import on_sqlite
from models import Tag
from sqlalchemy import NullPool, QueuePool, event, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import get_or_create, get_or_create_many, sqlite
from async_goc._databases.writer import writer_of

pytestmark = on_sqlite


@pytest.fixture
def reader(engine: AsyncEngine) -> AsyncEngine:
    return sqlite.reading(engine)


async def test_readers_beside_a_writer(
    engine: AsyncEngine, reader: AsyncEngine
) -> None:
    """They take no turn, and each sees one state of the database to its end.

    Fails without `mark_as_reader` in `_make_reader.on_connect`.
    """
    committed = asyncio.Event()

    async def read() -> None:
        async with AsyncSession(reader) as one, AsyncSession(reader) as other:
            assert not (await one.scalars(select(Tag))).all()
            has_read.set()
            await committed.wait()
            assert not (await one.scalars(select(Tag))).all()
            assert (await get_or_create(other, Tag, name="x"))[1] is False
            assert writer_of(engine.sync_engine).line().holder is None

    has_read = asyncio.Event()
    async with asyncio.timeout(5), AsyncSession(engine) as session:
        await get_or_create(session, Tag, name="x")
        # A task that is not inside the session's transaction.
        task = asyncio.create_task(read(), context=Context())
        await has_read.wait()
        await session.commit()
        committed.set()
        await task


async def by_call(session: AsyncSession) -> None:
    await get_or_create(session, Tag, name="x")


async def by_many(session: AsyncSession) -> None:
    await get_or_create_many(session, Tag, [{"name": "x"}])


async def by_flush(session: AsyncSession) -> None:
    session.add(Tag(name="x"))
    await session.flush()


@pytest.mark.parametrize("write", [by_call, by_many, by_flush])
@pytest.mark.parametrize("has_options", [False, True])
async def test_a_write_is_a_clear_error(
    engine: AsyncEngine,
    reader: AsyncEngine,
    write: Callable[[AsyncSession], Awaitable[None]],
    has_options: bool,
) -> None:
    """It is the database's own error, and says what to do; other errors are alone.

    Fails without `add_note` in `_make_reader.on_error`.
    """
    if has_options:
        reader = reader.execution_options(compiled_cache=None)
    async with AsyncSession(reader) as session:
        with pytest.raises(OperationalError) as raised:
            await write(session)
        assert raised.value.orig.sqlite_errorname == "SQLITE_READONLY"
        assert "sqlite.reading()" in raised.value.__notes__[-1]
    for other, sql in ((reader, "SELECT nothing"), (engine, "DELETE FROM tag")):
        async with other.connect() as connection:
            await connection.exec_driver_sql("PRAGMA query_only = ON")
            with pytest.raises(OperationalError) as raised:
                await connection.exec_driver_sql(sql)
            assert not hasattr(raised.value, "__notes__")


async def test_the_same_settings(url: str) -> None:
    """The reader has the writer's settings, and a pool of its own of the same kind."""
    engine = create_async_engine(url, pool_size=3, hide_parameters=True)
    sqlite.configure(engine, busy_timeout=7, foreign_keys=False)

    @event.listens_for(engine.sync_engine, "connect")
    def _set(connection: Any, _entry: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA cache_size = 77")
        cursor.close()

    reader = sqlite.reading(engine)
    assert sqlite.reading(engine).pool is reader.pool
    assert isinstance(reader.pool, QueuePool)
    assert reader.pool is not engine.pool
    assert reader.pool.size() == 3
    assert reader.url == engine.url
    assert reader.sync_engine.hide_parameters
    async with reader.connect() as connection:
        asked = ("busy_timeout", "foreign_keys", "cache_size", "query_only")
        values = [await connection.scalar(text(f"PRAGMA {name}")) for name in asked]
        assert values == [7000, 0, 77, 1]
    pool = reader.pool
    await engine.dispose()
    assert reader.pool is not pool
    assert pool.checkedin() == 0
    async with AsyncSession(reader) as session:  # It serves again, as engines do.
        assert not (await session.scalars(select(Tag))).all()
    await engine.dispose()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("sqlite+aiosqlite://", {}, "no file"),
        ("sqlite+aiosqlite:///:memory:", {"poolclass": NullPool}, "no file"),
        (
            "sqlite+aiosqlite:///file:x?mode=memory&uri=true",
            {"poolclass": NullPool},
            "no file",
        ),
        ("postgresql+asyncpg://nobody@127.0.0.1:1/none", {}, "not SQLite"),
    ],
)
async def test_what_cannot_be_read_beside(
    backend: str, url: str, options: dict[str, object], message: str
) -> None:
    """A database in memory has no file; no other database needs this."""
    assert backend
    engine = create_async_engine(url, **options)
    with pytest.raises(ValueError, match=message):
        sqlite.reading(engine)
    await engine.dispose()


@pytest.mark.parametrize("has_writer", [False, True])
async def test_an_engine_that_was_not_configured(url: str, has_writer: bool) -> None:
    """Its reader would never have the settings, so the error says what comes first.

    Fails without `find_writer` in `reading`.
    """
    engine = create_async_engine(url)
    if has_writer:
        async with AsyncSession(engine) as session:
            await get_or_create(session, Tag, name="x")
    with pytest.raises(ValueError, match=r"call async_goc\.sqlite\.configure"):
        sqlite.reading(engine)
    assert sqlite.reading(sqlite.configure(engine)).pool.checkedout() == 0
    await engine.dispose()


@pytest.mark.parametrize("disposed", ["root", "copy", "other copy"])
async def test_copies_with_other_options(
    url: str, tmp_path: Path, disposed: str
) -> None:
    """Each reads with its own options; disposing any disposes the pool of them all.

    Fails without `get_execution_options` in `reading`.
    """
    root = sqlite.configure(create_async_engine(url))

    @event.listens_for(root.sync_engine, "connect")
    def _attach(connection: Any, _entry: object) -> None:
        cursor = connection.cursor()
        for name in "ab":
            cursor.execute(f"ATTACH '{tmp_path}/{name}.db' AS tenant_{name}")
        cursor.close()

    tenants = {
        name: root.execution_options(schema_translate_map={None: f"tenant_{name}"})
        for name in "ab"
    }
    for name, tenant in tenants.items():
        async with tenant.begin() as connection:
            await connection.run_sync(Tag.metadata.create_all)
            await connection.execute(insert(Tag).values(name=name))
    readers = {name: sqlite.reading(tenant) for name, tenant in tenants.items()}
    for name, reader in readers.items():
        async with AsyncSession(reader) as session:
            assert (await session.scalars(select(Tag.name))).all() == [name]
    pool = readers["a"].pool
    assert pool.checkedin() == 1
    engines = {"root": root, "copy": tenants["a"], "other copy": tenants["b"]}
    await engines[disposed].dispose()
    assert pool.checkedin() == 0
    assert readers["b"].pool is readers["a"].pool is not pool
    async with AsyncSession(sqlite.reading(root)) as session:
        assert (await session.scalars(select(Tag.name))).all() == []
    await root.dispose()
