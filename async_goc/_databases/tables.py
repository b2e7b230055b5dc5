"""Give a statement many rows of values, in a text that does not depend on how many."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    CHAR,
    JSON,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Enum,
    FromClause,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Time,
    Uuid,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

Types = Sequence[TypeEngine[Any]]
Columns = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Source:
    """A table of values.

    Attributes:
        table: What to select from.
        columns: Its columns, in the order of the types.
        number: Each row's number, from 0 on.
        pack: Turns the values, by column, into the statement's parameters; ``None``:
            there are some that do not fit.
    """

    table: FromClause
    columns: Sequence[ColumnElement[Any]]
    number: ColumnElement[Any]
    pack: Callable[[Columns], dict[str, Any] | None]


def no_table(_dialect: Dialect, _types: Types) -> None:
    """Stand in where a database has no such table."""


# PostgreSQL: an array for each column.

_ITEMS: Final = (
    *(String, Integer, Numeric, Boolean, Date, DateTime, Time, Interval, Uuid),
    *(LargeBinary, JSON),
)


def array_table(dialect: Dialect, types: Types) -> Source | None:
    items = [_item(type_, dialect) for type_ in types]
    if None in items:
        return None
    names = [f"array_{number}" for number in range(len(types))]
    arrays = [
        # A list among the values is a value, not a dimension.
        bindparam(name, type_=ARRAY(item, dimensions=1))
        for name, item in zip(names, items, strict=True)
        if item is not None
    ]
    columns = [
        func.unnest(array, type_=type_).label(name)
        for name, type_, array in zip(names, types, arrays, strict=True)
    ]
    number = func.generate_series(0, func.cardinality(arrays[0]) - 1, type_=Integer())
    # Not FROM unnest(…) WITH ORDINALITY: all of it would be stored before it is read.
    table = select(*columns, number.label("number")).subquery()

    def pack(values: Columns) -> dict[str, Any]:
        return dict(zip(names, values, strict=True))

    return Source(table, [table.c[n] for n in names], table.c.number, pack)


def _item(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any] | None:
    """Return the type as an array's item; ``None``: it cannot be one."""
    # An array of arrays is flattened; CHAR is padded; SQL around values has no place.
    inner = type_.impl_instance if isinstance(type_, TypeDecorator) else type_
    if not isinstance(inner, _ITEMS) or isinstance(inner, CHAR):
        return None
    # A variant, or what a decorator chooses for this database, may be anything.
    chosen: Any = type_.dialect_impl(dialect)
    if isinstance(chosen, TypeDecorator):
        chosen = chosen.impl_instance
    if _kind(chosen) is not _kind(inner):
        return None
    if type_.bind_expression(bindparam("any", type_=type_)) is not None:
        return None
    if isinstance(inner, String) and not isinstance(inner, Enum) and inner.length:
        # A cast to VARCHAR(n) cuts off what is longer, where an INSERT refuses it.
        text = inner.copy()
        text.length = None
        if not isinstance(type_, TypeDecorator):
            return text
        item = type_.copy()  # which shares the type that it decorates
        item.impl = item.impl_instance = text
        return item
    return type_


def _kind(type_: TypeEngine[Any]) -> type[TypeEngine[Any]] | None:
    """Return which of SQLAlchemy's own kinds of type a database's type belongs to."""
    try:
        generic = type_.as_generic()
    except NotImplementedError:  # a type that only this database has
        return None
    return next((kind for kind in _ITEMS if isinstance(generic, kind)), None)


# SQLite: one document.

_PLAIN: Final = frozenset({str, int, bool})


def document_table(dialect: Dialect, types: Types) -> Source:
    each = func.json_each(bindparam("document", type_=String())).table_valued(
        "key", "value"
    )
    processors = [
        type_.dialect_impl(dialect).bind_processor(dialect) for type_ in types
    ]

    def pack(values: Columns) -> dict[str, Any] | None:
        processed = [
            column if process is None else list(map(process, column))
            for process, column in zip(processors, values, strict=True)
        ]
        # Bytes have no place in a document, and fractions lose theirs.
        if not all(_PLAIN.issuperset(map(type, column)) for column in processed):
            return None
        return {"document": json.dumps(list(zip(*processed, strict=True)))}

    # As they are: a type would have results to process.
    columns = [
        func.json_extract(each.c.value, f"$[{number}]") for number in range(len(types))
    ]
    return Source(each, columns, each.c.key, pack)
