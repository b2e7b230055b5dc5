"""Give a statement many rows of values, in a text that does not depend on how many."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

Types = Sequence[TypeEngine[Any]]
Columns = Sequence[Sequence[Any]]


# VALUES (?, ?), (?, ?), … would be a new text for each number of rows, which SQLAlchemy
# would have to compile, the driver to prepare, and the server to plan. And drivers take
# only so many parameters. So the values travel in very few of them, and the statement
# selects from those. Where a database has no such table, or the values do not fit, the
# callers send a parameter for each value.
#
# On PostgreSQL each column is an array. The arrays are unnested side by side in the
# SELECT list, and generate_series numbers their rows there. WITH ORDINALITY numbers
# rows, too, but it belongs to a function in FROM, and all that such a function returns
# is stored before its first row is read.
#
# SQLite has no arrays, so all the rows are one JSON document there. That is enough for
# finding rows, but not for inserting them: a document has no place for bytes, and a
# fraction may come out of it as another number. `pack` looks at the values for this
# reason, and returns None where there are others than texts, integers and booleans.
#
# What does not travel in an array can be told by its type, once for all statements: a
# list (an array of arrays is flattened), CHAR (it is padded), a type that wraps its
# values in SQL (an item of an array has no place for that), and a type that turns into
# one of another kind on this database, as a variant may.


@dataclass(frozen=True, slots=True)
class Source:
    """A table of values."""

    # What to select from.
    table: sa.FromClause
    # Its columns, in the order of the types.
    columns: Sequence[sa.ColumnElement[Any]]
    # Each row's number, from 0 on.
    number: sa.ColumnElement[Any]
    # Turns the values, by column, into the statement's parameters; `None` if some of
    # the values do not fit.
    pack: Callable[[Columns], dict[str, Any] | None]


def no_table(_dialect: Dialect, _types: Types) -> None:
    """Stand in where a database has no such table."""


def array_table(dialect: Dialect, types: Types) -> Source | None:
    """Return PostgreSQL's table, which has an array for each column."""
    arrays: list[sa.BindParameter[Any]] = []
    columns: list[sa.Label[Any]] = []
    for place, type_ in enumerate(types):
        item, name = _item(type_, dialect), f"array_{place}"
        if item is None:
            return None
        # Without `dimensions`, a list among the values would be a second dimension.
        arrays.append(sa.bindparam(name, type_=ARRAY(item, dimensions=1)))
        columns.append(func.unnest(arrays[-1], type_=type_).label(name))
    last = func.cardinality(arrays[0]) - 1
    number = func.generate_series(0, last, type_=sa.Integer()).label("number")
    table = sa.select(*columns, number).subquery()

    def pack(values: Columns) -> dict[str, Any]:
        return {a.key: column for a, column in zip(arrays, values, strict=True)}

    return Source(table, [table.c[a.key] for a in arrays], table.c.number, pack)


_ITEMS: Final = (
    *(sa.String, sa.Integer, sa.Numeric, sa.Boolean, sa.Date, sa.DateTime, sa.Time),
    *(sa.Interval, sa.Uuid, sa.LargeBinary, sa.JSON),
)


def _item(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any] | None:
    """Return the type as an array's item; ``None``: it cannot be one."""
    inner, chosen = _decorated(type_), _decorated(type_.dialect_impl(dialect))
    if not isinstance(inner, _ITEMS) or isinstance(inner, sa.CHAR):
        return None
    # A variant, or what a decorator chooses for this database, may be anything.
    if _kind(chosen) is not _kind(inner):
        return None
    if type_.bind_expression(sa.bindparam("any", type_=type_)) is not None:
        return None
    if isinstance(inner, sa.String) and not isinstance(inner, sa.Enum) and inner.length:
        # A cast to VARCHAR(n) cuts off what is longer, where an INSERT refuses it.
        text = inner.copy()
        text.length = None
        if not isinstance(type_, TypeDecorator):
            return text
        # The copy shares the type that it decorates, which must keep its length.
        item = type_.copy()
        item.impl = item.impl_instance = text
        return item
    return type_


def _decorated(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    return type_.impl_instance if isinstance(type_, TypeDecorator) else type_


def _kind(type_: TypeEngine[Any]) -> type[TypeEngine[Any]] | None:
    """Return which of SQLAlchemy's own kinds of type a database's type belongs to."""
    try:
        generic = type_.as_generic()
    except NotImplementedError:  # a type that only this database has
        return None
    return next((kind for kind in _ITEMS if isinstance(generic, kind)), None)


_PLAIN: Final = frozenset({str, int, bool})


def document_table(dialect: Dialect, types: Types) -> Source:
    """Return SQLite's table, which is one document of all rows."""
    document = sa.bindparam("document", type_=sa.String())
    each = func.json_each(document).table_valued("key", "value")
    processors = [t.dialect_impl(dialect).bind_processor(dialect) for t in types]

    def pack(values: Columns) -> dict[str, Any] | None:
        processed = [
            column if process is None else list(map(process, column))
            for process, column in zip(processors, values, strict=True)
        ]
        if not all(_PLAIN.issuperset(map(type, column)) for column in processed):
            return None
        return {"document": json.dumps(list(zip(*processed, strict=True)))}

    # The columns have no type: it would process what is selected, and the values are
    # compared as the driver stores them.
    paths = [f"$[{place}]" for place in range(len(types))]
    columns = [func.json_extract(each.c.value, path) for path in paths]
    return Source(each, columns, each.c.key, pack)
