"""Look at a database, and change nothing in it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import registry

from .. import sqlite
from .._databases import READ_ONLY, find_writer, read_tables
from .drift import Place, absent, drift
from .duplicates import duplicates
from .engines import engine_findings
from .finding import Finding, in_order
from .mapped import keys_of, not_native, without_key
from .models import Models, models_of


async def check(
    engine: AsyncEngine, models: MetaData | registry | type[Any], /
) -> list[Finding]:
    """Return what makes lookups unsafe, in the models, the database and the engine.

    It only reads: one connection, one transaction, which is rolled back; on PostgreSQL
    READ ONLY, on SQLite beside the writer where :func:`async_goc.sqlite.configure` was
    called. A user who may SELECT is enough. What the database does not make unique,
    though the models declare it so, is counted: one SELECT, which reads the table. No
    value of a row is ever in a finding.

    Args:
        engine: The engine of the program, because its settings are looked at as well.
            Its ``schema_translate_map`` is heeded.
        models: A declarative base (SQLModel is one), with all models that are imported;
            one mapped class, with its subclasses; a registry; or a MetaData, whose
            tables then have no classes, so that nothing is said of these.

    Returns:
        The findings, errors first, then by model; an empty list if there is none.

    Raises:
        TypeError: One of the arguments is something else.
        ValueError: There are no tables; the models' modules may not be imported.
        sqlalchemy.exc.SQLAlchemyError: The database or the mappings cannot be read.
    """
    _refuse_other(engine)
    found = models_of(models)
    async with _reader(engine).connect() as connection:
        await connection.execution_options(**READ_ONLY)
        findings = await connection.run_sync(_look, found)
        await connection.rollback()
    return sorted(findings, key=in_order)


def _refuse_other(engine: object) -> None:
    if not isinstance(engine, AsyncEngine):
        msg = f"{engine!r} is no AsyncEngine; make one by create_async_engine()"
        raise TypeError(msg)


def _reader(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine that does not take SQLite's write lock."""
    writer = find_writer(engine.sync_engine)
    if writer is not None and writer.statement is not None:
        with suppress(ValueError):  # A database in memory has no other connection.
            return sqlite.reading(engine)
    return engine


def _look(connection: Connection, models: Models) -> list[Finding]:
    engine = connection.engine
    findings = [*without_key(models), *not_native(models, engine)]
    for place in _places(connection, models):
        if isinstance(place, Finding):
            findings.append(place)
            continue
        findings += [*keys_of(place), *drift(place)]
        counted = (duplicates(connection, place, *each) for each in place.uncertain)
        findings += filter(None, counted)
    return findings + list(engine_findings(connection))


def _places(connection: Connection, models: Models) -> Iterator[Place | Finding]:
    """Yield each table with what the database has of it, or that it has none."""
    options: Any = connection.get_execution_options()
    schemas: Mapping[str | None, str | None] = options.get("schema_translate_map", {})
    by_schema: defaultdict[str | None, list[Table]] = defaultdict(list)
    for table in models.tables:
        by_schema[schemas.get(table.schema, table.schema)].append(table)
    for schema, tables in by_schema.items():
        names = {str(table.name) for table in tables}
        stored = read_tables(connection, schema, names)
        for table in tables:
            model, found = models.name_of(table), stored.get(table.name)
            if found is None:
                yield absent(model, table)
            else:
                yield Place(model, table, found, connection.dialect)
