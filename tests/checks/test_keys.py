"""What a key of the database has to do with a key of the model."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from backends import MARIADB, MYSQL_9, heavy, on_sqlite
from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.ext.asyncio import AsyncEngine

from async_goc.checks import check

MISSING, EXTRA = "missing-in-database", "missing-in-model"
FOLDED, NULLABLE, LATE = "case-insensitive", "nullable-key", "deferrable"

COLUMNS = "id integer PRIMARY KEY, name varchar(20) NOT NULL, hall int, gone int"
DEFERRABLE = "ALTER TABLE {t} ADD UNIQUE (name) DEFERRABLE"
CITEXTS = COLUMNS.replace("varchar(20)", "citext")


@dataclass
class Case:
    """What is found, what a model declares, and what a migration has made."""

    codes: set[str]
    declared: Callable[[], Sequence[Any]]
    # The terms of a unique index, or a whole statement.
    made: Sequence[str]
    columns: str = COLUMNS

    def table(self, name: str, metadata: MetaData) -> Table:
        """The model's; it may have the column by another type."""
        columns = {
            "id": Column("id", Integer, primary_key=True),
            "name": Column("name", String(20), nullable=False),
            "hall": Column("hall", Integer, nullable=False),
            "gone": Column("gone", Integer),
        }
        declared = self.declared()
        columns |= {c.name: c for c in declared if isinstance(c, Column)}
        others = [each for each in declared if not isinstance(each, Column)]
        return Table(name, metadata, *columns.values(), *others)

    def statements(self, name: str) -> list[str]:
        """What makes the table."""
        statements = [f"CREATE TABLE {name} ({self.columns})"]
        for number, each in enumerate(self.made):
            index = f"CREATE UNIQUE INDEX k{number}_{name} ON {name} {each}"
            statements.append(index if each[0] == "(" else each.format(t=name))
        return statements


def name(**how: Any) -> Any:
    return UniqueConstraint("name", **how)


def pair() -> Any:
    return UniqueConstraint("hall", "name")


def lower() -> Any:
    return Index("k", func.lower(text("name")), unique=True)


def partial(condition: str, index: str | None = "k") -> Any:
    where = {"postgresql_where": text(condition), "sqlite_where": text(condition)}
    return Index(index, "name", unique=True, **where)


def typed(kind: Any = None, *, nullable: bool = False) -> Any:
    return Column("name", kind or String(20), nullable=nullable)


ANYWHERE = {
    "there": Case(set(), lambda: [name()], ["(name)"]),
    "other_order": Case(set(), lambda: [pair()], ["(name, hall)"]),
    "wider": Case({MISSING}, lambda: [name()], ["(name, hall)"]),
    "narrower": Case({EXTRA}, lambda: [pair()], ["(name)"]),
    "others": Case({MISSING, EXTRA}, lambda: [name()], ["(hall)"]),
    "two": Case({EXTRA}, lambda: [name()], ["(name)", "(hall)"]),
    "not_unique": Case({MISSING}, lambda: [name()], ["CREATE INDEX i ON {t} (name)"]),
    "nulls": Case({NULLABLE}, lambda: [typed(nullable=True), name()], ["(name)"]),
    "odd_name": Case(
        {MISSING},
        lambda: [
            Column("first name", String(20), nullable=False),
            UniqueConstraint("first name"),
        ],
        [],
    ),
    # The model has less of the table than there is, its key included.
    "unmapped": Case(
        {MISSING}, list, [], "id integer, own varchar(9) PRIMARY KEY, name varchar(20)"
    ),
}
INDEXES = {
    "partial": Case(
        set(), lambda: [partial("gone IS NULL")], ["(name) WHERE (gone IS NULL)"]
    ),
    "only_partial": Case({MISSING}, lambda: [name()], ["(name) WHERE gone IS NULL"]),
    "unknown_partial": Case({EXTRA}, list, ["(name) WHERE gone IS NULL"]),
    # A condition may be spelled anew by the database; then the name counts.
    "respelled": Case(
        set(),
        lambda: [partial("gone IN (1, 2)", "k0_respelled")],
        ["(name) WHERE gone = 1 OR gone = 2"],
    ),
    "no_nulls": Case(
        set(),
        lambda: [typed(nullable=True), partial("name IS NOT NULL")],
        ["(name) WHERE name IS NOT NULL"],
    ),
    "lower": Case(set(), lambda: [lower()], ["(lower(name))"]),
    # What is unique without regard to case is unique, but not the other way round.
    "only_lower": Case({FOLDED}, lambda: [name()], ["(lower(name))"]),
    "only_plain": Case({MISSING}, lambda: [lower()], ["(name)"]),
    "unknown_lower": Case({FOLDED}, list, ["(abs(hall), upper(name))"]),
    "lower_of_other": Case(
        {MISSING, FOLDED}, lambda: [UniqueConstraint("hall")], ["(lower(name))"]
    ),
    "function_of_it": Case(
        {MISSING, EXTRA}, lambda: [UniqueConstraint("hall")], ["(abs(hall))"]
    ),
    "function": Case({EXTRA}, list, ["(abs(hall))"]),
    # A value that has no literal has no text to compare.
    "no_text": Case(
        {MISSING},
        lambda: [Index("k", func.coalesce(text("name"), object), unique=True)],
        [],
    ),
}
POSTGRES = {
    "late": Case({LATE}, lambda: [name()], [DEFERRABLE]),
    "both_late": Case(
        {LATE},
        lambda: [name(deferrable=True)],
        [DEFERRABLE],
    ),
    "equal_nulls": Case(
        set(),
        lambda: [typed(nullable=True), name(postgresql_nulls_not_distinct=True)],
        ["ALTER TABLE {t} ADD UNIQUE NULLS NOT DISTINCT (name)"],
    ),
    "other_nulls": Case(
        {MISSING},
        lambda: [
            typed(nullable=True),
            name(name="k0_other_nulls", postgresql_nulls_not_distinct=True),
        ],
        ["(name)"],
    ),
    "no_nulls_at_all": Case(
        set(), lambda: [name(postgresql_nulls_not_distinct=True)], ["(name)"]
    ),
    "folded_type": Case({FOLDED}, lambda: [name()], ["(name)"], CITEXTS),
    "known_type": Case(set(), lambda: [typed(CITEXT), name()], ["(name)"], CITEXTS),
    "include": Case(set(), lambda: [name()], ["(name) INCLUDE (hall)"]),
}
SQLITE = {
    "inline": Case(
        set(), lambda: [name()], [], COLUMNS.replace("NOT NULL", "NOT NULL UNIQUE")
    ),
    "nocase": Case({FOLDED}, lambda: [name()], ["(name COLLATE NOCASE)"]),
    "both_nocase": Case(
        set(),
        lambda: [typed(String(20, "NOCASE")), name()],
        ["(name COLLATE NOCASE)"],
    ),
    "text_key": Case(set(), list, [], COLUMNS.replace("id integer", "id text", 1)),
    "many_terms": Case(
        {EXTRA}, list, ["(substr(name, 1, 2), hall, name || '),(')WHERE name <> ')'"]
    ),
}
MYSQL = {
    "lower": Case(set(), lambda: [lower()], ["((lower(name)))"]),
    "parts": Case({EXTRA}, list, ["(hall, (concat(name, 'x')))"]),
    "known_parts": Case(
        set(),
        lambda: [Index("k", "hall", text("concat(name, 'x')"), unique=True)],
        ["(hall, (concat(name, 'x')))"],
    ),
}
# Of an index that begins with a part of a column, the whole is unique as well.
INNODB = {"cut": Case({EXTRA}, lambda: [name()], ["(name(3))"])}


async def found_in(
    place: AsyncEngine, cases: Mapping[str, Case]
) -> dict[str, set[str]]:
    """What is found of each table."""
    metadata = MetaData()
    schemas = place.get_execution_options().get("schema_translate_map") or {}
    async with place.connect() as connection:
        if schemas:
            is_postgres = place.dialect.name == "postgresql"
            words = (
                "SET search_path TO checked, public" if is_postgres else "USE checked"
            )
            await connection.exec_driver_sql(words)
        for each, case in cases.items():
            case.table(each, metadata)
            for statement in case.statements(each):
                await connection.exec_driver_sql(statement)
        await connection.commit()
        if schemas:
            back = "RESET search_path" if is_postgres else "USE goc_test"
            await connection.exec_driver_sql(back)
            await connection.commit()
    found: defaultdict[str, set[str]] = defaultdict(set)
    for finding in await check(place, metadata):
        if finding.code != "no-unique-key":
            found[str(finding.model)].add(finding.code)
    return {each: found[each] for each in cases}


def expected(cases: Mapping[str, Case]) -> dict[str, set[str]]:
    return {each: case.codes for each, case in cases.items()}


@on_sqlite
async def test_sqlite(place: AsyncEngine) -> None:
    """Constraints, and indexes of any kind, in SQLite."""
    cases = {**ANYWHERE, **INDEXES, **SQLITE}
    assert await found_in(place, cases) == expected(cases)


@pytest.mark.parametrize(
    "backend", ["postgresql+asyncpg", *heavy("postgresql+psycopg")], indirect=True
)
async def test_postgresql(place: AsyncEngine) -> None:
    """The same in PostgreSQL, where some are deferrable."""
    cases = {**ANYWHERE, **INDEXES, **POSTGRES}
    assert await found_in(place, cases) == expected(cases)


@pytest.mark.parametrize("backend", [MARIADB[0], *heavy(*MARIADB[1:])], indirect=True)
async def test_mariadb(place: AsyncEngine) -> None:
    """In MariaDB, indexes are constraints."""
    cases = {**ANYWHERE, **INNODB}
    assert await found_in(place, cases) == expected(cases)


@pytest.mark.parametrize("backend", MYSQL_9[:1], indirect=True)
async def test_mysql(place: AsyncEngine) -> None:
    """MySQL has indexes on expressions, too."""
    cases = {**ANYWHERE, **INNODB, **MYSQL}
    assert await found_in(place, cases) == expected(cases)
