"""What may be given to a check, and what it leaves alone."""

from typing import Any

import checked
import pytest
from backends import MARIADB, on_postgres, on_sqlite
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, registry

from async_goc.checks import Finding, check


def models_in(findings: list[Finding]) -> set[str | None]:
    return {each.model for each in findings if each.model}


class Empty(DeclarativeBase):
    """Its models are in a module that nobody has imported."""


@on_sqlite
async def test_what_may_be_given(demo: AsyncEngine) -> None:
    """A base, a class, a registry, or a MetaData, which has no classes."""
    everything = await check(demo, checked.Base)
    assert await check(demo, checked.Base.registry) == everything
    tables = await check(demo, checked.Base.metadata)
    assert models_in(tables) < {
        table.name for table in checked.Base.metadata.tables.values()
    }
    assert not {each.code for each in tables} & {"not-native"}
    # A class is looked at with those that inherit from it, and with nothing else.
    assert models_in(await check(demo, checked.Entry)) == {"Entry", "Alarm"}
    alarm = {each.code for each in await check(demo, checked.Alarm)}
    assert alarm == {"no-unique-key", "not-native"}
    assert await check(demo, checked.Sound) == []


@on_sqlite
async def test_sqlmodel(demo: AsyncEngine) -> None:
    """SQLModel is a base like any other."""
    sqlmodel: Any = pytest.importorskip("sqlmodel")
    kept = registry()

    class Own(sqlmodel.SQLModel, registry=kept):
        pass

    class Hero(Own, table=True):
        __tablename__ = "lost"
        id: int | None = sqlmodel.Field(default=None, primary_key=True)
        name: str = sqlmodel.Field(unique=True)

    findings = await check(demo, Own)
    assert models_in(findings) == {"Hero"}
    assert {each.code for each in findings} == {"missing-in-database", "duplicates"}


REFUSED: list[tuple[Any, str]] = [
    (object(), "has no models; give a declarative base"),
    (int, "int has no tables"),
    (Empty, "Empty has no tables; import the modules"),
    (MetaData(), r"MetaData\(\) has no tables"),
]


@on_sqlite
async def test_refused(engine: AsyncEngine) -> None:
    """What has no models is refused before any SQL."""
    event.listen(engine.sync_engine, "connect", lambda *_: pytest.fail("connected"))
    for given, words in REFUSED:
        with pytest.raises((TypeError, ValueError), match=words):
            await check(engine, given)
    other: Any = engine.sync_engine
    with pytest.raises(TypeError, match="is no AsyncEngine"):
        await check(other, checked.Base)


@pytest.mark.parametrize(
    "backend", ["sqlite+aiosqlite", "postgresql+asyncpg", MARIADB[0]], indirect=True
)
async def test_reads_only(demo: AsyncEngine) -> None:
    """Nothing is sent that writes, or makes even a temporary table."""
    sent: list[str] = []
    event.listen(
        demo.sync_engine, "before_cursor_execute", lambda *args: sent.append(args[2])
    )
    findings = await check(demo, checked.Base)
    assert findings
    words = {statement.split()[0].upper() for statement in sent}
    assert words <= {"SELECT", "SHOW", "PRAGMA", "BEGIN", "WITH"}
    pragmas = [each for each in sent if each.startswith("PRAGMA")]
    assert not any("=" in each for each in pragmas)
    # It is the same a second time, and no connection is left out of the pool.
    assert await check(demo, checked.Base) == findings
    assert demo.pool.checkedout() == 0


@on_sqlite
async def test_beside_a_writer(demo: AsyncEngine) -> None:
    """It waits for no writer of SQLite's.

    Fails without `reading` in `_reader`.
    """
    async with demo.begin() as connection:
        await connection.execute(text("DELETE FROM sound"))
        assert await check(demo, checked.Sound) == []


@on_postgres
@pytest.mark.one_driver
async def test_read_only(place: AsyncEngine) -> None:
    """Not even a listener can write in its transaction; the next one is as ever.

    Fails without `READ_ONLY` in `check`.
    """
    create = "CREATE TABLE checked.new (name text PRIMARY KEY)"

    def write(connection: Connection) -> None:
        connection.exec_driver_sql(create)

    engine = place.sync_engine
    event.listen(engine, "begin", write)
    with pytest.raises(DBAPIError, match="read-only"):
        await check(place, checked.Base)
    event.remove(engine, "begin", write)
    async with place.begin() as connection:
        await connection.exec_driver_sql(create)


@on_postgres
@pytest.mark.one_driver
async def test_who_may_only_select(demo: AsyncEngine) -> None:
    """A role that may SELECT sees all there is; one that may not is an error."""
    role = "CREATE ROLE looker LOGIN; GRANT USAGE ON SCHEMA checked TO looker"
    async with demo.begin() as connection:
        for each in role.split("; "):
            await connection.execute(text(each))
    looker = create_async_engine(demo.url.set(username="looker"))
    translated = looker.execution_options(schema_translate_map={None: "checked"})
    try:
        with pytest.raises(DBAPIError, match="permission denied"):
            await check(translated, checked.Base)
        async with demo.begin() as connection:
            grant = "GRANT SELECT ON ALL TABLES IN SCHEMA checked TO looker"
            await connection.execute(text(grant))
        found = await check(translated, checked.Base)
        assert found == await check(demo, checked.Base)
    finally:
        await looker.dispose()
        async with demo.begin() as connection:
            await connection.execute(text("DROP OWNED BY looker"))
            await connection.execute(text("DROP ROLE looker"))


@on_postgres
@pytest.mark.one_driver
async def test_other_relations(place: AsyncEngine) -> None:
    """Views, partitions, materialized views, and an index that could not be built."""
    statements = [
        "CREATE TABLE checked.behind (name text, hall int)",
        "INSERT INTO checked.behind VALUES ('a', 1), ('a', 2), (NULL, 3), (NULL, 3)",
        "CREATE VIEW checked.seen AS SELECT * FROM checked.behind",
        "CREATE MATERIALIZED VIEW checked.kept AS SELECT * FROM checked.behind",
        "CREATE UNIQUE INDEX ON checked.kept (hall) WHERE name IS NOT NULL",
        "CREATE TABLE checked.parted (name text PRIMARY KEY) PARTITION BY HASH (name)",
        "CREATE TABLE checked.broken (name text NOT NULL)",
        "INSERT INTO checked.broken VALUES ('a'), ('a')",
    ]
    async with place.begin() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)
    loose = place.execution_options(isolation_level="AUTOCOMMIT")
    async with loose.connect() as connection:
        build = "CREATE UNIQUE INDEX CONCURRENTLY k ON checked.broken (name)"
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql(build)
    metadata = MetaData()
    for name in ("seen", "kept", "parted", "broken"):
        # The key of a view is the model's only, and the rows say whether it is one.
        Table(name, metadata, Column("name", String, primary_key=True))
    # A schema of the table's own goes before the engine's.
    Table(
        "behind", metadata, Column("hall", Integer, primary_key=True), schema="checked"
    )
    found = {(f.model, f.code): f.message for f in await check(place, metadata)}
    assert {key[0] for key in found if key[1] == "duplicates"} == {
        *("seen", "kept", "broken", "checked.behind")
    }
    assert ("seen", "missing-in-database") not in found
    assert ("kept", "missing-in-model") in found
    assert "its index is invalid" in found["broken", "missing-in-database"]
    assert "1 key is there more than once" in found["seen", "duplicates"]
    assert not [key for key in found if key[0] == "parted"]
