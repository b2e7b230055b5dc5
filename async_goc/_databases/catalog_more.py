"""Read unique keys where SQLAlchemy leaves out expressions and collations."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Inspector

from .catalog_keys import Keys, Place, StoredKey, primary_keys

_WHERE: Final = re.compile(r"\s*where\b(.*)", re.IGNORECASE | re.DOTALL)


def read_sqlite(
    connection: Connection, inspector: Inspector, how: dict[str, Any]
) -> Keys:
    """Return the keys of SQLite's tables."""
    # SQLAlchemy leaves out an index on an expression, with a warning. What numbers the
    # rows of a table is a key without an index.
    keys = primary_keys(inspector, how)
    schema: str | None = how["schema"]
    quote = connection.dialect.identifier_preparer.quote_identifier
    prefix = "" if schema is None else f"{quote(schema)}."

    def ask(statement: str, *values: str) -> Sequence[Any]:
        return connection.exec_driver_sql(statement, values).fetchall()

    for table in how["filter_names"]:
        listed = ask(f"PRAGMA {prefix}index_list({quote(table)})")
        for _, name, is_unique, origin, *_ in listed:
            if is_unique and origin != "pk":
                parts = ask(f"PRAGMA {prefix}index_xinfo({quote(name)})")
                master = f"{prefix}sqlite_master"
                made = ask(f"SELECT sql FROM {master} WHERE name = ?", name)  # noqa: S608
                key = _of_index(name, made[0][0] or "", [p for p in parts if p[5]])
                keys[schema, table].append(key)
    return keys


def _of_index(name: str, made: str, parts: Sequence[Any]) -> StoredKey:
    terms, where = _take_apart(made)
    columns = [part[2] for part in parts]
    pairs = zip(terms, columns, strict=False)
    return StoredKey(
        name=name,
        columns=[column for column in columns if column is not None],
        expressions=[term for term, column in pairs if column is None],
        where=where,
        folded=frozenset(p[2] for p in parts if p[2] and p[4] == "NOCASE"),
    )


def _take_apart(made: str) -> tuple[Sequence[str], str | None]:
    """Return the terms of a CREATE INDEX, and the condition after them."""
    pieces = list(_pieces(made.partition("(")[2]))
    found = _WHERE.match(pieces.pop()) if pieces else None
    return pieces, found and found[1]


def _pieces(text: str) -> Iterator[str]:
    """Yield what commas part, up to the closing parenthesis, and what follows it."""
    depth, start, quote = 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"`":
            quote = letter
        elif letter == "(":
            depth += 1
        elif letter in ",)" and depth == 0:
            yield text[start:place].strip()
            start = place + 1
            if letter == ")":
                yield text[start:]
                return
        elif letter == ")":
            depth -= 1


# What an expression has of the way in which the server was told it.
_INTRODUCER: Final = re.compile(r"_\w+(?=')")
_STATISTICS: Final = sa.text(
    "SELECT * FROM information_schema.statistics"
    " WHERE table_schema = COALESCE(:schema, DATABASE()) AND non_unique = 0"
    " ORDER BY table_name, index_name, seq_in_index"
)


def read_mysql(connection: Connection, _: Inspector, how: dict[str, Any]) -> Keys:
    """Return the keys of MariaDB's or MySQL's tables."""
    # SQLAlchemy has no word for an index on an expression, and takes its parameters for
    # columns. MariaDB has no such indexes, and no column that tells of them.
    schema: str | None = how["schema"]
    rows = connection.execute(_STATISTICS, {"schema": schema}).mappings()
    lowered = [{name.lower(): value for name, value in row.items()} for row in rows]
    keys: defaultdict[Place, list[StoredKey]] = defaultdict(list)
    for (table, index), parts in groupby(lowered, _index_of):
        key = _of_statistics(index, list(parts))
        keys[schema, table].append(key)
    return keys


def _index_of(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["table_name"], row["index_name"]


def _of_statistics(index: str, rows: Sequence[Mapping[str, Any]]) -> StoredKey:
    named = [row for row in rows if row["column_name"] is not None]
    made = [row["expression"] for row in rows if row["column_name"] is None]
    return StoredKey(
        name=index,
        columns=[row["column_name"] for row in named],
        expressions=[_INTRODUCER.sub("", text.replace("\\'", "'")) for text in made],
        cut=frozenset(row["column_name"] for row in named if row["sub_part"]),
        is_primary=index == "PRIMARY",
    )
