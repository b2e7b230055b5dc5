"""What is found of an engine, by how it was made and what it is connected to."""

from uuid import uuid4

import poolers
import pytest
from backends import MARIADB, MARIADB_11, on_postgres, on_sqlite
from models import Tag
from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from async_goc import sqlite
from async_goc._command.targets import make_engine
from async_goc._databases import lanes
from async_goc._models import private
from async_goc.checks import check

COMMITTED, REPEATABLE = "READ COMMITTED", "REPEATABLE READ"
NOT_CONFIGURED = "sqlite-not-configured"
CACHES = ("statement_cache_size", "prepared_statement_cache_size")


async def codes_of(engine: AsyncEngine) -> list[str]:
    """What is found of the engine, and not of the tables."""
    findings = await check(engine, Tag)
    await engine.dispose()
    return [finding.code for finding in findings if finding.model is None]


def begin(connection: object) -> None:
    connection.exec_driver_sql("BEGIN")


@on_sqlite
async def test_sqlite(url: str) -> None:
    """An engine that was configured, one that was not, and those that begin."""
    plain = create_async_engine(url)
    [finding] = [f for f in await check(plain, Tag) if f.model is None]
    assert finding.code == NOT_CONFIGURED
    assert "in no transaction" in finding.message
    assert await codes_of(sqlite.configure(plain)) == []
    recipe = create_async_engine(url)
    event.listen(
        recipe.sync_engine, "connect", lambda c, _: setattr(c, "isolation_level", None)
    )
    event.listen(recipe.sync_engine, "begin", begin)
    [finding] = [f for f in await check(recipe, Tag) if f.model is None]
    assert finding.code == NOT_CONFIGURED
    assert "database is locked" in finding.message
    await recipe.dispose()
    # As an SQLite before 3.35, and MySQL: no INSERT returns what it has stored.
    old = sqlite.configure(create_async_engine(url))
    old.dialect.insert_returning = False
    assert await codes_of(old) == ["not-native"]
    loose = create_async_engine(url, isolation_level="AUTOCOMMIT")
    assert await codes_of(loose) == ["autocommit"]
    shared = create_async_engine("sqlite+aiosqlite://")
    assert await codes_of(shared) == ["shared-connection", NOT_CONFIGURED]
    shared = sqlite.configure(create_async_engine("sqlite+aiosqlite://"))
    assert await codes_of(shared) == ["shared-connection"]


@on_postgres
@pytest.mark.one_driver
async def test_levels(url: str) -> None:
    """A level at which a lost race ends the transaction, and no transactions at all."""
    assert await codes_of(create_async_engine(url)) == []
    repeatable = create_async_engine(url, isolation_level=REPEATABLE)
    assert await codes_of(repeatable) == ["isolation"]
    # What the engine's options say counts more.
    both = create_async_engine(url, isolation_level=REPEATABLE)
    assert await codes_of(both.execution_options(isolation_level=COMMITTED)) == []
    loose = create_async_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    assert await codes_of(loose) == ["autocommit"]


@pytest.mark.parametrize("backend", [MARIADB[0]], indirect=True)
async def test_levels_of_innodb(url: str) -> None:
    """Its own level is right, unless it refuses what its snapshot does not have."""
    assert await codes_of(create_async_engine(url)) == []
    serializable = create_async_engine(url, isolation_level="SERIALIZABLE")
    assert await codes_of(serializable) == ["isolation"]


@pytest.mark.parametrize("backend", MARIADB_11[:1], indirect=True)
async def test_levels_that_refuse(url: str) -> None:
    """MariaDB has refused it since 11.6."""
    assert await codes_of(create_async_engine(url)) == ["isolation"]
    committed = create_async_engine(url, isolation_level=COMMITTED)
    assert await codes_of(committed) == []


@on_postgres
async def test_poolers(server: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements are prepared behind a pooler that does not keep track of them."""
    is_asyncpg = "asyncpg" in url
    found = ["prepared-statements"]
    with poolers.pgbouncer(server) as pooler:
        place = make_url(f"postgresql://{pooler}")
        there = make_url(url).set(host=place.host, port=place.port)
        default = create_async_engine(there)
        [finding] = [f for f in await check(default, Tag) if f.model is None]
        assert [finding.code] == found
        await default.dispose()
        # As docs/postgresql.md has it: one setting of the two is not enough.
        settings = (
            dict.fromkeys(CACHES, 0) if is_asyncpg else {"prepare_threshold": None}
        )
        assert f"connect_args={settings}," in finding.remedy
        right = create_async_engine(there, connect_args=settings)
        assert await codes_of(right) == []
        for name in CACHES if is_asyncpg else ():
            one = create_async_engine(there, connect_args={name: 0})
            assert await codes_of(one) == found
        if is_asyncpg:
            # From 1.21 on, a pooler that keeps track gives them names of its own.
            named = {"prepared_statement_name_func": lambda: f"PGBOUNCER_{uuid4()}"}
            tracked = create_async_engine(there, connect_args=named)
            assert await codes_of(tracked) == []
        # The command's own engine prepares nothing.
        own = make_engine(there.render_as_string(hide_password=False), {})
        assert await codes_of(own) == []
        # Without the private names, it is not known, and nothing breaks.
        monkeypatch.setattr(lanes, "CONFIG", "_nowhere")
        monkeypatch.setattr(private, "STATEMENT_CACHE", "_nowhere")
        unknown = [] if is_asyncpg else found
        assert await codes_of(create_async_engine(there)) == unknown
