"""Insert many rows by one statement, which skips those that are there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import signature
from itertools import chain, groupby
from typing import Any, Final

from sqlalchemy import Column, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session

from .._databases import Source, facts_of, skipping_insert
from .._models import (
    columns_of,
    memory,
    nullable,
    readable,
    register_loaded,
    remembered,
)
from .native import returning_insert

Values = Mapping[str, Any]
Maker = Callable[[], Any]

# SQLAlchemy keeps to the driver's limit by itself, and needs no smaller pages for it.
_PAGE: Final = 100_000


def insert_many(
    session: Session, mapper: Mapper[Any], rows: Sequence[Values]
) -> list[Any]:
    """Insert the rows that conflict with no other; return their instances, loaded."""
    # Unlike a flush, this does not call the class: its instances are as a SELECT would
    # load them. An error is one of another constraint, or of a trigger.
    # A new instance may get the id() of an old one, unless that is kept alive.
    known = {id(instance): instance for instance in session.identity_map.values()}
    instances: list[Any] = []
    _, others = _columns(mapper)
    named = others.keys() & set(chain.from_iterable(rows))
    others = {name: others[name] for name in others if name in named}

    def filled(row: Values) -> tuple[str, ...]:
        """Return which of the other columns the row has something for."""
        has_it = [
            n for n in others if row.get(n) is not None or (others[n] and n in row)
        ]
        return tuple(has_it)

    # In the order of the rows, so that rivals wait for each other in one order.
    for names, alike in groupby(rows, filled):
        instances += _insert(session, mapper, names, list(alike))
    for instance in instances:
        if id(instance) in known:
            # Its row had been deleted, and the new one is another with the same key.
            session.refresh(instance, sorted(readable(mapper)))
    register_loaded(session, instances)
    return instances


def _insert(
    session: Session,
    mapper: Mapper[Any],
    filled: tuple[str, ...],
    rows: Sequence[Values],
) -> Iterable[Any]:
    """Insert rows that have values for the same columns."""
    dialect = session.get_bind(mapper).dialect
    sent, _ = _columns(mapper)
    names = (*sent, *filled)
    columns = [_values(name, sent.get(name), rows) for name in names]
    key = ("insert", dialect.name, filled)
    source, statement = memory(mapper, key, lambda: _statement(mapper, dialect, names))
    if source is not None:
        return session.scalars(statement, source.pack(columns))
    plain = skipping_insert(dialect, mapper.class_).returning(mapper.class_)
    how = {"render_nulls": True, "insertmanyvalues_page_size": _PAGE}
    parameters = [
        dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)
    ]
    return session.scalars(plain.execution_options(**how), parameters)


def _values(name: str, make: Maker | None, rows: Sequence[Values]) -> list[Any]:
    values = [row.get(name) for row in rows]
    return values if make is None else [make() if v is None else v for v in values]


def _statement(
    mapper: Mapper[Any], dialect: Dialect, names: Sequence[str]
) -> tuple[Source | None, Any]:
    """Return an INSERT from a table of values, if the database can have one."""
    known, table = columns_of(mapper), mapper.local_table
    columns = [known[name] for name in names]
    # A SELECT would have one default for all rows, of the columns that are not sent.
    others: Any = set(table.columns) - set(columns)
    facts = facts_of(dialect)
    if not facts.inserts_from_table or any(map(_has_default_here, others)):
        return None, None
    source = facts.table_of(dialect, [column.type for column in columns])
    if source is None:
        return None, None
    rows = select(*source.columns).order_by(source.number)
    inserting = returning_insert(mapper, dialect).from_select(columns, rows)
    return source, select(mapper.class_).from_statement(inserting)


@remembered
def _columns(mapper: Mapper[Any]) -> tuple[dict[str, Maker | None], dict[str, bool]]:
    """Return the columns that each row sends a value for, and all others."""
    # The former with the function that makes a default, if they have one; without, they
    # send NULL, as in a flush. The others get their default only from SQLAlchemy or the
    # database, if a row has nothing for them; is None something (a JSON null)?
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
    with suppress(ValueError):  # The function has no signature.
        # SQLAlchemy has wrapped those that take no context.
        if not signature(default.arg).parameters:
            return partial(default.arg, None)
    return None


def _has_default_here(column: Column[Any]) -> bool:
    """Whether the column has a default that is made in Python."""
    default: Any = column.default
    return default is not None and (default.is_scalar or default.is_callable)
