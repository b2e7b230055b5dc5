"""List rows of values in a statement, where they do not fit into a table of values."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TupleType, TypeEngine

from .tables import Columns, Source, Types, unbounded, wrapped

# What the values are compared with.
Attributes = Sequence[Any]


def values_list(attributes: Attributes, values: Columns, first: int) -> Source:
    """Return a list of VALUES, whose rows are numbered from *first* on."""
    types = _types(attributes)
    # A VALUES list would take for text what the driver gives no type.
    typed = [
        [sa.cast(sa.literal(value, type_), unbounded(type_)) for value in column]
        for column, type_ in zip(values, types, strict=True)
    ]
    rows = list(zip(range(first, first + len(values[0])), *typed, strict=True))
    names = _names(types)
    columns: Any = map(sa.column, names, [sa.Integer(), *types])
    table = sa.values(*columns).data(rows).alias()
    number, *keys = [table.c[name] for name in names]

    def pack(_values: Columns, _dialect: Dialect) -> dict[str, Any]:
        return {}

    return Source(table, keys, number, pack)


def expanding_list(attributes: Attributes, values: Columns, first: int) -> Source:
    """Return SQLite's list of VALUES, in a text that SQLAlchemy compiles once."""
    types = _types(attributes)
    rows = list(zip(range(first, first + len(values[0])), *values, strict=True))
    names = _names(types)
    # It is expanded into (VALUES (?, ?), …), as SQLAlchemy does after IN.
    pairs = TupleType(sa.Integer(), *types)
    listed = sa.bindparam("listed", expanding=True, type_=pairs)
    columns: Any = [
        sa.literal_column(f"column{place}").label(name)
        for place, name in enumerate(names, 1)
    ]
    source = sa.select(*columns).select_from(sa.text(":listed").bindparams(listed))
    table = source.subquery()
    number, *keys = [table.c[name] for name in names]

    def pack(_values: Columns, _dialect: Dialect) -> dict[str, Any]:
        return {listed.key: rows}

    return Source(table, wrapped(types, keys), number, pack)


def select_list(attributes: Attributes, values: Columns, first: int) -> Source:
    """Return MySQL's list of rows, with the collations of what it is compared with."""
    # A literal takes the collation of what it is compared with, but not if it comes
    # from a table: that is an error, or a comparison of bytes. In a UNION a literal
    # takes the collation of the column above it; so no row of the columns comes first.
    types, names = _types(attributes), _names(attributes)
    columns: list[Any] = [sa.literal_column("-1"), *attributes]
    labelled = [c.label(name) for c, name in zip(columns, names, strict=True)]
    above = sa.select(*labelled).where(sa.false())
    items = ", ".join(_item(type_, place) for place, type_ in enumerate(types))
    rows = list(zip(*values, strict=True))
    text = " UNION ALL ".join(
        f"SELECT {number}, {items.format(row=row)}"
        for row, number in enumerate(range(first, first + len(rows)))
    )
    binds = [
        sa.bindparam(f"value_{row}_{place}", value, type_=types[place])
        for row, each in enumerate(rows)
        for place, value in enumerate(each)
    ]
    selects: Any = sa.text(text).bindparams(*binds).columns(*map(sa.column, names))
    table = sa.union_all(above, selects).subquery()
    number, *keys = [table.c[name] for name in names]

    def pack(_values: Columns, _dialect: Dialect) -> dict[str, Any]:
        return {}

    return Source(table, wrapped(types, keys), number, pack)


def _item(type_: TypeEngine[Any], place: int) -> str:
    # What is no literal of its type would make a text of the whole column.
    kind = next((name for kind, name in _CASTS if isinstance(type_, kind)), None)
    bind = f":value_{{row}}_{place}"
    return bind if kind is None else f"CAST({bind} AS {kind})"


_CASTS: Final = (
    (sa.DateTime, "DATETIME(6)"),
    (sa.Date, "DATE"),
    (sa.Time, "TIME(6)"),
)


def _names(types: Sequence[object]) -> list[str]:
    return ["number", *(f"value_{place}" for place in range(len(types)))]


def _types(attributes: Attributes) -> Types:
    return [attribute.type for attribute in attributes]
