"""Read which tables the database has, and what is unique in them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Inspector
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope

from .catalog_keys import Keys, StoredKey, read_inspected, read_postgres
from .catalog_more import read_mysql, read_sqlite


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table or a view of the database's."""

    columns: frozenset[str]
    keys: Sequence[StoredKey]
    is_view: bool


def read_tables(
    connection: Connection, schema: str | None, names: Collection[str]
) -> dict[str, StoredTable]:
    """Return those of the tables that the database has."""
    inspector = sa.inspect(connection)
    how: dict[str, Any] = {"schema": schema, "filter_names": [*names]}
    how |= {"kind": ObjectKind.ANY, "scope": ObjectScope.ANY}
    views = {*inspector.get_view_names(schema)}
    columns = _read_columns(connection, inspector, how)
    read = _READERS.get(connection.dialect.name, read_inspected)
    keys = read(connection, inspector, how)
    tables: dict[str, StoredTable] = {}
    for name in names & columns.keys():
        own = keys.get((schema, name), ())
        folded = columns[name]
        tables[name] = StoredTable(
            frozenset(folded),
            [replace(key, folded=key.folded | _folded(key, folded)) for key in own],
            is_view=name in views and not own,
        )
    return tables


def _folded(key: StoredKey, folded: Mapping[str, bool]) -> frozenset[str]:
    return frozenset(name for name in key.columns if folded.get(name))


# SQLAlchemy would look up the types of all columns, and warn of those that it does not
# know. What is asked for is which columns there are, and whether case counts in them.
_COLUMNS: Final[Mapping[str, sa.TextClause]] = {
    "postgresql": sa.text(
        "SELECT c.relname, a.attname, t.typname = 'citext' FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_type t ON t.oid = a.atttypid"
        " WHERE a.attnum > 0 AND NOT a.attisdropped"
        " AND c.relkind IN ('r', 'p', 'f', 'v', 'm')"
        " AND n.nspname = COALESCE(CAST(:schema AS text), n.nspname)"
        " AND (CAST(:schema AS text) IS NOT NULL OR pg_table_is_visible(c.oid))"
    ),
    # Case does not count there but in few columns, and there is nothing to say of it.
    **dict.fromkeys(
        ("mysql", "mariadb"),
        sa.text(
            "SELECT table_name, column_name, 0 FROM information_schema.columns"
            " WHERE table_schema = COALESCE(:schema, DATABASE())"
        ),
    ),
}


def _read_columns(
    connection: Connection, inspector: Inspector, how: dict[str, Any]
) -> Mapping[str, Mapping[str, bool]]:
    """Return the columns of each table, and whether case does not count in them."""
    found: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    statement = _COLUMNS.get(connection.dialect.name)
    if statement is None:
        for place, columns in inspector.get_multi_columns(**how).items():
            found[place[1]] = {column["name"]: False for column in columns}
        return found
    rows = connection.execute(statement, {"schema": how["schema"]})
    for table, column, is_folded in rows:
        found[table][column] = bool(is_folded)
    return found


_Reader = Callable[[Connection, Inspector, dict[str, Any]], Keys]
_READERS: Final[Mapping[str, _Reader]] = {
    "postgresql": read_postgres,
    "sqlite": read_sqlite,
    "mysql": read_mysql,
    "mariadb": read_mysql,
}
