"""SQLite: real transactions, configured or not."""

import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from backends import POSTGRES
from models import Base, Tag
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import Policy, Stats, get_or_create, sqlite
from async_goc.exceptions import SqliteTransactionWarning

pytestmark = pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)


@pytest.fixture
async def plain(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine as create_async_engine() makes it."""
    engine = create_async_engine(url)
    yield engine
    await engine.dispose()


async def tags(engine: AsyncEngine) -> int:
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count()).select_from(Tag)) or 0


async def leaves_nothing_after_rollback(engine: AsyncEngine) -> bool:
    async with AsyncSession(engine) as session:
        await get_or_create(session, Tag, name="red")
        with pytest.raises(IntegrityError):
            await get_or_create(session, Tag, name="b", defaults={"colour": "bad"})
        await get_or_create(session, Tag, name="blue")
        await session.rollback()
    return await tags(engine) == 0


async def test_outer_rollback_configured(engine: AsyncEngine) -> None:
    """On a configured engine, a rollback undoes what the savepoint released."""
    assert await leaves_nothing_after_rollback(engine)


async def test_outer_rollback_plain(plain: AsyncEngine) -> None:
    """On an engine that is not configured, it does so as well."""
    assert await leaves_nothing_after_rollback(plain)


async def test_plain_engine_looks_again(plain: AsyncEngine) -> None:
    """A row that a rival inserts before our transaction begins is found."""

    async def rival() -> dict[str, Any]:
        async with AsyncSession(plain) as other, other.begin():
            other.add(Tag(name="red", colour="rival"))
        return {}

    stats = Stats()
    policy = Policy(observer=stats)
    async with AsyncSession(plain) as session:
        tag, created = await get_or_create(
            session, Tag, name="red", defaults=rival, policy=policy
        )
    assert (tag.colour, created) == ("rival", False)
    assert stats["hit"] == 1  # not a lost race: no INSERT was tried


async def test_deferred_engine_reports_the_database_error(url: str) -> None:
    """An engine that begins by itself, deferred, is left alone: BUSY comes through."""
    engine = sqlite.configure(create_async_engine(url), begin="DEFERRED")

    async def rival() -> dict[str, Any]:
        async with AsyncSession(engine) as other, other.begin():
            other.add(Tag(name="red"))
        return {}

    async with AsyncSession(engine) as session:
        with pytest.raises(OperationalError) as raised:
            await get_or_create(session, Tag, name="red", defaults=rival)
        assert raised.value.orig.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
    await engine.dispose()


async def test_autocommit_warns_once(url: str) -> None:
    """AUTOCOMMIT cannot be rolled back: one warning per engine, with the remedy."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine) as session:
        with pytest.warns(SqliteTransactionWarning, match=r"sqlite\.conf") as caught:
            await get_or_create(session, Tag, name="red")
        await get_or_create(session, Tag, name="blue")
    assert [w.filename for w in caught] == [__file__]
    assert "AUTOCOMMIT" in str(caught[0].message)
    await engine.dispose()


@pytest.mark.parametrize("is_configured", [True, False])
async def test_static_pool_warns_once(backend: str, is_configured: bool) -> None:
    """Sessions at work at once on one connection: one warning per engine.

    A session alone is as safe as with a file. Fails without `is_shared` in
    `_begin_immediate`.
    """
    assert backend not in POSTGRES
    engine = create_async_engine("sqlite+aiosqlite://")
    if is_configured:
        sqlite.configure(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    assert await leaves_nothing_after_rollback(engine)
    async with AsyncSession(engine) as one, AsyncSession(engine) as other:
        await get_or_create(one, Tag, name="red")
        with pytest.warns(SqliteTransactionWarning, match="database file") as caught:
            await get_or_create(other, Tag, name="blue")
        await get_or_create(other, Tag, name="green")
    assert [w.filename for w in caught] == [__file__]
    await engine.dispose()


async def test_session_in_an_external_transaction(engine: AsyncEngine) -> None:
    """A session that joins a connection's transaction leaves it to its owner."""
    async with engine.connect() as connection:
        transaction = await connection.begin()
        async with AsyncSession(
            connection, join_transaction_mode="create_savepoint"
        ) as session:
            await get_or_create(session, Tag, name="red")
            await session.commit()
        await transaction.rollback()
    assert await tags(engine) == 0


@pytest.mark.parametrize(
    ("options", "mode", "is_warned"),
    [
        ({}, "create_savepoint", True),
        # The call's own BEGIN comes first.
        ({}, "rollback_only", False),
        ({"connect_args": {"autocommit": False}}, "create_savepoint", False),
        ({"connect_args": {"isolation_level": None}}, "create_savepoint", False),
    ],
    ids=["savepoint", "no savepoint", "autocommit=False", "listener"],
)
async def test_a_rolled_back_fixture(
    url: str, options: dict[str, Any], mode: Any, is_warned: bool
) -> None:
    """Its rollback undoes all, or there is a warning: one per engine, with the remedy.

    Fails without `_warn_of_savepoint` in `_begin_immediate`.
    """
    if "autocommit" in options.get("connect_args", {}) and sys.version_info < (3, 12):
        pytest.skip("sqlite3 has no autocommit=")
    engine = create_async_engine(url, **options)
    if "isolation_level" in options.get("connect_args", {}):

        @event.listens_for(engine.sync_engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN")

    how = (
        pytest.warns(SqliteTransactionWarning, match=r"SAVEPOINT.*sqlite\.conf")
        if is_warned
        else contextlib.nullcontext([])
    )
    with how as caught:
        for _ in range(2):
            async with engine.connect() as connection:
                outer = await connection.begin()
                async with AsyncSession(
                    connection, join_transaction_mode=mode
                ) as session:
                    for name in ("red", "blue"):
                        _, created = await get_or_create(session, Tag, name=name)
                        assert created or is_warned
                    await session.commit()
                await outer.rollback()
    assert [w.filename for w in caught] == [__file__] * is_warned
    assert await tags(engine) == (2 if is_warned else 0)
    await engine.dispose()


async def test_settings(url: str) -> None:
    """configure() sets each connection up, and may be called twice."""
    engine = create_async_engine(url)
    assert sqlite.configure(engine, busy_timeout=1.5, journal_mode="DELETE") is engine
    sqlite.configure(engine, busy_timeout=2.5, foreign_keys=False)
    begun: list[str] = []

    @event.listens_for(engine.sync_engine, "connect")
    def _trace(connection: Any, _entry: object) -> None:
        connection.run_async(lambda it: it.set_trace_callback(note))

    def note(statement: str) -> None:
        begun.extend([statement] if statement.startswith("BEGIN") else [])

    async with engine.connect() as connection:
        values = {
            name: await connection.scalar(text(f"PRAGMA {name}"))
            for name in ("busy_timeout", "journal_mode", "foreign_keys")
        }
    assert values == {"busy_timeout": 2500, "journal_mode": "wal", "foreign_keys": 0}
    assert begun == ["BEGIN IMMEDIATE"]
    await engine.dispose()


@pytest.mark.parametrize("busy_timeout", [30, 0])
async def test_journal_mode_waits_for_another_writer(
    url: str, busy_timeout: int
) -> None:
    """Two processes can start on one new database at the same time.

    Fails without `is_busy` in `_has_set_journal_mode`.
    """
    engine = create_async_engine(url)
    holder = sqlite3.connect(
        engine.url.database or "", isolation_level=None, check_same_thread=False
    )
    tries: list[str] = []

    def let_the_second_pass(statement: str) -> None:
        tries.extend([statement] if "journal_mode" in statement else [])
        if len(tries) == 2:
            holder.rollback()

    @event.listens_for(engine.sync_engine, "connect")
    def _trace(connection: Any, _entry: object) -> None:
        connection.run_async(lambda it: it.set_trace_callback(let_the_second_pass))

    sqlite.configure(engine, busy_timeout=busy_timeout)
    locked = pytest.raises(OperationalError, match="database is locked")
    with contextlib.closing(holder):
        holder.execute("BEGIN IMMEDIATE")
        with contextlib.nullcontext() if busy_timeout else locked:
            async with engine.begin() as connection:
                assert await connection.scalar(text("PRAGMA journal_mode")) == "wal"
    assert len([it for it in tries if "=" in it]) == (2 if busy_timeout else 1)
    await engine.dispose()


async def test_autocommit_connection_of_a_configured_engine(
    engine: AsyncEngine,
) -> None:
    """A connection that asks for AUTOCOMMIT gets it: VACUUM works."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM"))
    assert await leaves_nothing_after_rollback(engine)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"begin": "LATER"}, "begin is 'LATER'"),
        ({"journal_mode": "wal2"}, "journal_mode is 'wal2'"),
        ({"busy_timeout": -1}, "give seconds"),
    ],
)
async def test_wrong_settings(plain: AsyncEngine, arguments: Any, message: str) -> None:
    """Values out of range are refused at once."""
    with pytest.raises(ValueError, match=message):
        sqlite.configure(plain, **arguments)


async def test_other_databases(backend: str) -> None:
    """Only SQLite engines can be configured."""
    assert backend not in POSTGRES
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(ValueError, match="not SQLite"):
        sqlite.configure(engine)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no autocommit=")
async def test_drivers_own_transactions(url: str) -> None:
    """With autocommit=False the driver begins by itself, and is left alone."""
    engine = create_async_engine(url, connect_args={"autocommit": False})
    assert await leaves_nothing_after_rollback(engine)
    await engine.dispose()
