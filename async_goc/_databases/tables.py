"""Give a statement many rows of values, in a text that does not depend on how many."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.ranges import AbstractMultiRange
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from .column import types_of
from .stored import as_stored
from .texts import array_of, is_text, is_written, write
from .uniform import decorated, processed, uniform

Types = Sequence[TypeEngine[Any]]
Columns = Sequence[Sequence[Any]]


# VALUES (?, ?), (?, ?), … would be a new text for each number of rows, which SQLAlchemy
# would have to compile, the driver to prepare, and the server to plan. And drivers take
# only so many parameters. So the values travel in very few of them, and the statement
# selects from those. Each row has its number beside it: what the statement finds is
# told by that number, and never by comparing values, which Python may take for equal
# where the database does not, or the other way round.
#
# On PostgreSQL each column is an array; one of texts is sent as one text, because
# asyncpg asks of each item of a list whether it is a list. The arrays are unnested side
# by side in the SELECT list, and generate_series numbers their rows there. WITH
# ORDINALITY numbers rows, too, but it belongs to a function in FROM, and all that such
# a function returns is stored before its first row is read.
#
# PostgreSQL plans a join by how many rows it expects, and by disks that take four times
# as long for a page out of order. For 10,000 keys it reads a table of a million rows as
# a whole, in 300 ms, where as many looks into the index take 14. So a long table is
# hidden in subqueries, of which it expects a thousand rows.
#
# What does not travel in an array can be told by its type, once for all statements: a
# list (an array of arrays is flattened), and a type that is not SQLAlchemy's own. Lists
# of plain values travel as texts. What a type wraps its values in, such as lower(…), is
# put around the table's columns.
#
# SQLite has no arrays, so all the rows are one JSON document there. That is enough for
# finding rows, but not for inserting them: a document has no place for bytes, a text in
# it ends at the first NUL, and a fraction may come out of it as another number.
#
# `pack` looks at the values, and returns None where they do not fit. They then travel
# in a list of VALUES after all, in pages: each is compiled anew, which takes SQLAlchemy
# 50 ms for 1,000 keys, during which nothing else runs.


@dataclass(frozen=True, slots=True)
class Source:
    """A table of values."""

    # What to select from.
    table: sa.FromClause
    # Its columns, in the order of the types.
    columns: Sequence[sa.ColumnElement[Any]]
    # Each row's number.
    number: sa.ColumnElement[Any]
    # Turns the values, by column, into the statement's parameters; `None` if some of
    # the values do not fit.
    pack: Callable[[Columns, Dialect], dict[str, Any] | None]


class TableOf(Protocol):
    """Returns a table of values of those types, if there can be one."""

    def __call__(
        self, dialect: Dialect, types: Types, /, *, is_long: bool = False
    ) -> Source | None: ...


def no_table(_dialect: Dialect, _types: Types, /, *, is_long: bool = False) -> None:
    """Stand in where a database has no such table."""


def array_table(
    dialect: Dialect, types: Types, /, *, is_long: bool = False
) -> Source | None:
    """Return PostgreSQL's table, which has an array for each column."""
    if not all(is_written(type_) or _is_item(type_, dialect) for type_ in types):
        return None
    hide: Hide = _hidden if is_long else lambda parameter: parameter
    arrays = [_array(f"array_{n}", t, dialect, hide) for n, t in enumerate(types)]
    columns = [
        func.unnest(each.array, type_=each.item).label(each.name) for each in arrays
    ]
    zero = sa.literal_column("0", sa.Integer())
    last = sa.bindparam("last", type_=sa.Integer())
    number = func.generate_series(zero, hide(last), type_=sa.Integer()).label("number")
    rows = sa.select(*columns, number)
    table = (rows.limit(hide(last) + 1) if is_long else rows).subquery()

    # Statements are kept with the model, and serve other engines with this one's name.
    def pack(values: Columns, dialect: Dialect) -> dict[str, Any] | None:
        packed: dict[str, Any] = {last.key: len(values[0]) - 1}
        for each, column in zip(arrays, values, strict=True):
            packed[each.name] = each.pack(column, dialect)
        return None if None in packed.values() else packed

    read = _as_sent(types, [table.c[each.name] for each in arrays])
    return Source(table, read, table.c.number, pack)


class _Array(NamedTuple):
    """How one column's values travel."""

    # The parameter's name.
    name: str
    # What is made of it, and the type of an item.
    array: sa.ColumnElement[Any]
    item: TypeEngine[Any]
    pack: Callable[[Sequence[Any], Dialect], Any]


Hide = Callable[[Any], Any]


def _hidden(parameter: Any) -> Any:
    return sa.select(parameter).scalar_subquery()


def _array(name: str, type_: TypeEngine[Any], dialect: Dialect, hide: Hide) -> _Array:
    item = sa.Text() if is_written(type_) else unbounded(type_)
    if is_text(type_, dialect):
        text = hide(sa.bindparam(name, type_=sa.Text()))
        # Of the column's own type: PostgreSQL compares CHAR with VARCHAR by its index,
        # and with TEXT by reading all of the table.
        return _Array(name, sa.cast(text, ARRAY(item)), item, array_of)

    def pack(values: Sequence[Any], dialect: Dialect) -> Sequence[Any] | None:
        if is_written(type_):
            return write(values, type_)
        return uniform(values, type_, dialect)

    # Without `dimensions`, a list among the values would be a second dimension.
    array = hide(sa.bindparam(name, type_=ARRAY(item, dimensions=1)))
    return _Array(name, array, item, pack)


def _as_sent(types: Types, columns: Sequence[Any]) -> list[Any]:
    """Return the columns as the statement for one row would have their values."""
    sent: list[Any] = []
    for type_, column in zip(types, columns, strict=True):
        read = sa.cast(column, type_) if is_written(type_) else column
        if isinstance(decorated(type_), _PADDED):
            read = sa.type_coerce(as_stored(type_, column), type_)
        sent.append(read)
    return wrapped(types, sent)


def unbounded(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type without a length: a cast cuts off what an INSERT would refuse."""
    inner: Any = decorated(type_)
    if not isinstance(inner, sa.String) or isinstance(inner, sa.Enum):
        return type_
    if inner.length is None:
        return type_
    text: sa.String = sa.String() if isinstance(inner, _PADDED) else inner.copy()
    text.length = None
    if not isinstance(type_, TypeDecorator):
        return text
    # The copy shares the type that it decorates, which must keep its length.
    unbounded = type_.copy()
    unbounded.impl = unbounded.impl_instance = text
    return unbounded


# Values that are lists themselves.
_LISTS: Final = (sa.ARRAY, AbstractMultiRange)
_PADDED: Final = (sa.CHAR, sa.NCHAR)


def _is_item(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether each of the type's values is sent in one array as it is sent alone."""
    # A variant, or what a decorator chooses for this database, may be anything.
    inner, chosen = decorated(type_), decorated(type_.dialect_impl(dialect))
    return (
        all(type(each).__module__.startswith("sqlalchemy.") for each in (inner, chosen))
        and not isinstance(inner, _LISTS)
        and not isinstance(chosen, _LISTS)
        and getattr(inner, "length", None) == getattr(chosen, "length", None)
    )


_PLAIN: Final = frozenset({str, int, bool})


def document_table(
    _dialect: Dialect,
    types: Types,
    /,
    *,
    is_long: bool = False,  # noqa: ARG001
) -> Source:
    """Return SQLite's table, which is one document of all rows."""
    document = sa.bindparam("document", type_=sa.String())
    each = func.json_each(document).table_valued("key", "value")

    # Statements are kept with the model, and serve other engines with this one's name.
    def pack(values: Columns, dialect: Dialect) -> dict[str, Any] | None:
        columns = [processed(c, t, dialect) for c, t in zip(values, types, strict=True)]
        if any(c is None or not _PLAIN.issuperset(types_of(c)) for c in columns):
            return None
        text = json.dumps(list(zip(*columns, strict=True)))
        return None if "\\u0000" in text else {"document": text}

    # The columns have no type: it would process what is selected, and the values are
    # compared as the driver stores them.
    paths = [f"$[{place}]" for place in range(len(types))]
    columns = [func.json_extract(each.c.value, path) for path in paths]
    return Source(each, wrapped(types, columns), each.c.key, pack)


def wrapped(types: Types, columns: Sequence[Any]) -> list[Any]:
    """Return the columns in the SQL by which a type wraps what is compared with it."""
    pairs = zip(types, columns, strict=True)
    wrapped = [(type_.bind_expression(column), column) for type_, column in pairs]
    return [column if sql is None else sql for sql, column in wrapped]


def bounded_wait(milliseconds: sa.BindParameter[str]) -> sa.FromClause:
    """Return a table of one row; a statement that reads it waits no longer for a lock.

    It is PostgreSQL's, and the setting ends with the transaction.
    """
    # MATERIALIZED keeps the call where it is, although nothing reads what it returns.
    setting = func.set_config("lock_timeout", milliseconds, True)  # noqa: FBT003
    return sa.select(setting).cte("bounded_wait").prefix_with("MATERIALIZED")
