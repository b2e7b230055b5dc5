"""Insert many rows by one statement, which skips those that are there."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, groupby
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Column, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session

from .._call import Call
from .._databases import Source, facts_of
from .._lookup import Lookup, limiting_waits, noting_loaded
from .._models import (
    columns_of,
    has_joins,
    is_generated,
    nullable,
    readable,
    recall,
    register_loaded,
    remembered,
)
from .native import returning_insert

Row = Mapping[str, Any]
Rows = Sequence[Row]
# What makes a default.
Maker = Callable[[], Any]

# SQLAlchemy keeps to the driver's limit by itself, and needs no smaller pages for it.
_PAGE: Final = 100_000


async def insert_many(
    call: Call, lookup: Lookup[Any], rows: Rows, key: Collection[str]
) -> list[Any]:
    """Insert the rows that conflict with no other; return their instances, loaded."""
    return await call.session.run_sync(_insert_in_time, lookup, rows, key)


def _insert_in_time(
    session: Session, lookup: Lookup[Any], rows: Rows, key: Collection[str]
) -> list[Any]:
    with limiting_waits(lookup, session):
        return _insert_all(session, lookup.plan.mapper, rows, key)


def _insert_all(
    session: Session, mapper: Mapper[Any], rows: Rows, key: Collection[str]
) -> list[Any]:
    # Unlike a flush, this does not call the class: the instances are as a SELECT would
    # load them.
    named = set(chain.from_iterable(rows))
    sent, others = sent_columns(mapper, key)
    others = {n: others[n] for n in others if n in named}
    made: list[Any] = []

    def filled(row: Row) -> tuple[str, ...]:
        return filled_by(row, others)

    # One INSERT has one list of columns, so rows that fill the same ones go together;
    # and in the order of the rows, so that rivals wait for each other in one order.
    with noting_loaded(session) as is_fresh:
        for names, alike in groupby(rows, filled):
            makers = {**sent, **dict.fromkeys(names)}
            made += _insert(session, mapper, makers, list(alike))
    for instance in made:
        if not is_fresh(instance):
            # Its row had been deleted, and the new one is another with the same key.
            session.refresh(instance, sorted(readable(mapper)))
    register_loaded(session, made)
    return made


def _insert(
    session: Session, mapper: Mapper[Any], makers: dict[str, Maker | None], rows: Rows
) -> Iterable[Any]:
    dialect, names = session.get_bind(mapper).dialect, tuple(makers)
    columns = [_values_of(name, make, rows) for name, make in makers.items()]
    key = ("insert", dialect.name, names)
    source, statement = recall(mapper, key, lambda: _statement(mapper, dialect, names))
    values: Any = None if source is None else source.pack(columns, dialect)
    if values is None:
        inserting = returning_insert(mapper, dialect)
        statement = select(mapper.class_).from_statement(inserting)
        statement = statement.execution_options(insertmanyvalues_page_size=_PAGE)
        keys = [columns_of(mapper)[name].key for name in names]
        rows_ = zip(*columns, strict=True)
        values = [dict(zip(keys, row, strict=True)) for row in rows_]
    result = session.scalars(statement, values)
    return result.unique() if has_joins(mapper) else result


def sent_columns(
    mapper: Mapper[Any], key: Collection[str]
) -> tuple[dict[str, Maker | None], dict[str, bool]]:
    """Return the columns that rows with that key always send, and the others."""
    sent, others = _columns(mapper)
    columns = columns_of(mapper)
    # What a row is looked up by is stored as it is: None as NULL, and not as a default.
    sent = {**sent, **{n: None for n in key if not is_generated(columns[n])}}
    return sent, {n: others[n] for n in others if n not in key}


def filled_by(row: Row, others: Mapping[str, bool]) -> tuple[str, ...]:
    """Return those of the other columns that the row has values for."""
    names = [n for n in others if n in row and (row[n] is not None or others[n])]
    return tuple(names)


def _values_of(name: str, make: Maker | None, rows: Rows) -> list[Any]:
    """Return a column's values, with defaults where a row has None."""
    values = [row.get(name) for row in rows]
    return values if make is None else [make() if v is None else v for v in values]


def _statement(
    mapper: Mapper[Any], dialect: Dialect, names: Sequence[str]
) -> tuple[Source | None, Any]:
    source, inserting = insert_from_table(mapper, dialect, names)
    if inserting is not None:
        inserting = select(mapper.class_).from_statement(inserting)
    return source, inserting


def insert_from_table(
    mapper: Mapper[Any],
    dialect: Dialect,
    names: Sequence[str],
    constants: Mapping[str, Any] = MappingProxyType({}),
    narrow: Callable[[Source, Any], Any] | None = None,
) -> tuple[Source | None, Any]:
    """Return an INSERT from a table of values, if the database can have one.

    The *constants* are in every row; *narrow* may make another SELECT of the rows.
    """
    known, table = columns_of(mapper), mapper.local_table
    columns = [known[name] for name in (*names, *constants)]
    # A SELECT would have one default for all rows, of the columns that are not sent.
    others: Any = set(table.columns) - set(columns)
    facts = facts_of(dialect)
    can_insert = facts.inserts_from_table and names
    if not can_insert or any(map(_has_default_here, others)):
        return None, None
    source = facts.table_of(dialect, [known[name].type for name in names])
    if source is None:
        return None, None
    values = *source.columns, *constants.values()
    rows: Any = select(*values).order_by(source.number)
    if narrow is not None:
        rows = narrow(source, rows)
    return source, returning_insert(mapper, dialect).from_select(columns, rows)


@remembered
def _columns(mapper: Mapper[Any]) -> tuple[dict[str, Maker | None], dict[str, bool]]:
    """Return the columns that every row sends a value for, and the others."""
    # The former come with the function that makes their default, or with None where a
    # flush sends NULL. The others are filled by SQLAlchemy or by the database, unless a
    # row has a value for them. They come with whether None is a value (a JSON null).
    sent: dict[str, Maker | None] = {}
    others: dict[str, bool] = {}
    identity = mapper.polymorphic_identity
    for name, column in columns_of(mapper).items():
        make = _maker(column)
        if column is mapper.polymorphic_on:
            sent[name] = lambda: identity
        elif make is not None or column.key in nullable(mapper):
            sent[name] = make
        else:
            others[name] = column.type.should_evaluate_none
    return sent, others


def _maker(column: Column[Any]) -> Maker | None:
    """Return what makes the column's default, if that depends on nothing else."""
    default: Any = column.default
    # A JSON null is a value: there, the default is for rows without the column only.
    if not _has_default_here(column) or column.type.should_evaluate_none:
        return None
    if default.is_scalar:
        return lambda: default.arg
    return None if _takes_context(column) else partial(default.arg, None)


@remembered
def has_contextual_default(mapper: Mapper[Any]) -> bool:
    """Whether a default in Python is made of the row's other values."""
    columns: Any = mapper.local_table.columns
    return any(_has_default_here(c) and _takes_context(c) for c in columns)


def is_called(default: Any) -> bool:
    """Whether a function makes the default."""
    return default is not None and default.is_callable


def _takes_context(column: Any) -> bool:
    default = column.default
    # SQLAlchemy has wrapped those that take no context, whatever else they may take.
    is_wrapped = hasattr(getattr(default, "arg", None), "__wrapped__")
    return is_called(default) and not is_wrapped


def _has_default_here(column: Column[Any]) -> bool:
    """Whether the column has a default that is made in Python."""
    default: Any = column.default
    return default is not None and (default.is_scalar or default.is_callable)
