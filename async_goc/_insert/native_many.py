"""Insert many rows by one statement, which skips those that are there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from inspect import signature
from itertools import chain, groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session

from .._databases import Source, facts_of, skipping_insert
from .._models import SQL, columns_of, memory, nullable, readable, register_loaded
from .obstacles import obstacles

Values = Mapping[str, Any]
Maker = Callable[[], Any]

# One statement for a chunk: SQLAlchemy keeps to the driver's limit by itself.
_PAGE: Final = 100_000
# Stands for a default that only SQLAlchemy can make.
_FROM_CONTEXT: Final[Maker] = dict


class _Columns(NamedTuple):
    """How a mapper's columns get their values.

    Attributes:
        given: Those that each row sends a value for, NULL included, with the function
            that makes one where there is none.
        made: Those that the database fills where a row has nothing for them.
        is_plain: Whether that is all: no default asks for the other values.
    """

    given: dict[str, Maker | None]
    made: tuple[str, ...]
    is_plain: bool


def obstacle_to_many(
    session: Session, mapper: Mapper[Any], rows: Sequence[Values]
) -> str | None:
    """Return why only the unit of work can insert these rows, if that is so."""
    names = set[str]().union(*rows)
    kinds: set[type[object]] = {type(v) for row in rows for v in row.values()}
    if any(issubclass(kind, SQL) for kind in kinds):
        return "SQL expressions are among the values"
    if not names <= columns_of(mapper).keys():
        return "more than columns is given"
    return next(obstacles(session, mapper, names), None)


def insert_many(
    session: Session, mapper: Mapper[Any], rows: Sequence[Values]
) -> list[Any]:
    """Insert the rows that conflict with no other; return their instances, loaded.

    Like a flush, this sends NULL for what has no value and no default. Unlike one, it
    does not call the class: the instances are as a SELECT would load them.

    Raises:
        sqlalchemy.exc.DBAPIError: A row violates another constraint.
    """
    columns = memory(mapper, "inserted", lambda: _columns(mapper))
    made: list[Any] = []
    known = {id(instance): instance for instance in session.identity_map.values()}
    named = set(chain.from_iterable(rows))
    filled = _filled(mapper, [name for name in columns.made if name in named])
    # In the order of the rows: rivals wait for each other in one order.
    for names, alike in groupby(rows, filled):
        made += _insert(session, mapper, names, list(alike))
    for instance in made:
        if id(instance) in known:
            # Its row had been deleted: this is another one, under the same key.
            session.refresh(instance, sorted(readable(mapper)))
    register_loaded(session, made)
    return made


def _insert(
    session: Session,
    mapper: Mapper[Any],
    filled: tuple[str, ...],
    rows: Sequence[Values],
) -> Iterable[Any]:
    dialect = session.get_bind(mapper).dialect
    columns = memory(mapper, "inserted", lambda: _columns(mapper))
    names = (*columns.given, *filled)
    key = ("insert", dialect.name, filled)
    source, statement = memory(mapper, key, lambda: _statement(mapper, dialect, names))
    if source is not None and columns.is_plain:
        packed = source.pack([_sent(columns, name, rows) for name in names])
        return session.scalars(statement, packed)
    plain = skipping_insert(dialect, mapper.class_)
    parameters = [_parameters(columns, names, row) for row in rows]
    returning = plain.returning(mapper.class_).execution_options(
        render_nulls=True, insertmanyvalues_page_size=_PAGE
    )
    return session.scalars(returning, parameters)


def _statement(
    mapper: Mapper[Any], dialect: Dialect, names: Sequence[str]
) -> tuple[Source | None, Any]:
    """Insert from arrays, in a text that does not depend on the number of rows."""
    known = columns_of(mapper)
    columns = [known[name] for name in names]
    table: Any = mapper.local_table
    # SQLite has no arrays, and a document changes some values: those of floats, say.
    # And a SELECT would have one default for all rows, of columns that are not mapped.
    others = set(table.columns) - set(known.values())
    if not facts_of(dialect).inserts_from_table or any(
        column.default for column in others
    ):
        return None, None
    source = facts_of(dialect).table_of(dialect, [c.type for c in columns])
    if source is None:
        return None, None
    rows = select(*source.columns).order_by(source.number)
    plain = skipping_insert(dialect, table)
    returned = [c for name, c in known.items() if name in readable(mapper)]
    inserting = plain.from_select(columns, rows).returning(*returned)
    return source, select(mapper.class_).from_statement(inserting)


def _parameters(columns: _Columns, names: Sequence[str], row: Values) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name in names:
        value, make = row.get(name), columns.given.get(name)
        if value is not None or make is None:
            parameters[name] = value
        elif make is not _FROM_CONTEXT:
            parameters[name] = make()
    return parameters


def _sent(columns: _Columns, name: str, rows: Sequence[Values]) -> list[Any]:
    """Return a column's values, as a flush would send them."""
    make = columns.given.get(name)
    if make is None:
        return [row.get(name) for row in rows]
    values = [row.get(name) for row in rows]
    return [make() if value is None else value for value in values]


def _columns(mapper: Mapper[Any]) -> _Columns:
    given: dict[str, Maker | None] = {}
    made: list[str] = []
    is_plain = True
    for name, column in columns_of(mapper).items():
        default: Any = column.default
        if column is mapper.polymorphic_on:
            given[name] = partial(_same, mapper.polymorphic_identity)
            continue
        if column.key in nullable(mapper):
            given[name] = None
            continue
        is_made_here = default is not None and (
            default.is_scalar or default.is_callable
        )
        # A JSON null is a value: there, the default applies to what is left out only.
        if is_made_here and not column.type.should_evaluate_none:
            given[name] = make = _maker(default)
            is_plain = is_plain and make is not _FROM_CONTEXT
        else:
            made.append(name)
            is_plain = is_plain and not is_made_here
    return _Columns(given, tuple(made), is_plain)


def _maker(default: Any) -> Maker:
    if default.is_scalar:
        return partial(_same, default.arg)
    with suppress(ValueError):  # It has no signature.
        # SQLAlchemy has wrapped those that take no context.
        if not signature(default.arg).parameters:
            return partial(default.arg, None)
    return _FROM_CONTEXT


def _same(value: Any) -> Any:
    return value


def _filled(
    mapper: Mapper[Any], made: Iterable[str]
) -> Callable[[Values], tuple[str, ...]]:
    """Return what tells which of these columns have a value in a row."""
    evaluates = {n: columns_of(mapper)[n].type.should_evaluate_none for n in made}

    def filled(row: Values) -> tuple[str, ...]:
        return tuple(
            [
                name
                for name, evaluates_none in evaluates.items()
                if name in row and (row[name] is not None or evaluates_none)
            ]
        )

    return filled
