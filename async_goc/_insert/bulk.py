"""Insert many rows by one statement, which skips those that are there."""

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from itertools import chain, groupby
from types import MappingProxyType, NoneType
from typing import Any, Final

from sqlalchemy import bindparam, cast, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, Session

from .._call import Call
from .._databases import Column, Source, facts_of, unbounded
from .._lookup import Lookup, limiting_waits, noting_loaded
from .._models import (
    columns_of,
    has_joins,
    readable,
    recall,
    register_loaded,
)
from .native import Columns, returning_insert
from .sent import (
    DIFFERENT,
    Maker,
    filled_by,
    has_default_here,
    sent_columns,
    the_same,
)

Row = Mapping[str, Any]
Rows = Sequence[Row]

# SQLAlchemy keeps to the driver's limit by itself, and needs no smaller pages for it.
_PAGE: Final = 100_000


async def insert_many(
    call: Call,
    lookup: Lookup[Any],
    rows: Rows,
    key: Collection[str],
    returned: Columns = (),
) -> list[Any]:
    """Insert the rows that conflict with no other; return their instances, loaded.

    Or return these columns of them, if there are any, and load nothing.
    """
    return await call.session.run_sync(_insert_in_time, lookup, rows, key, returned)


def _insert_in_time(
    session: Session,
    lookup: Lookup[Any],
    rows: Rows,
    key: Collection[str],
    returned: Columns,
) -> list[Any]:
    with limiting_waits(lookup, session):
        return _insert_all(session, lookup.plan.mapper, rows, key, returned)


def _insert_all(
    session: Session,
    mapper: Mapper[Any],
    rows: Rows,
    key: Collection[str],
    returned: Columns,
) -> list[Any]:
    # Unlike a flush, this does not call the class: the instances are as a SELECT would
    # load them.
    named = set(chain.from_iterable(rows))
    sent, others = sent_columns(mapper, key)
    others = {n: others[n] for n in others if n in named}
    made: list[Any] = []

    # One INSERT has one list of columns, so rows that fill the same ones go together;
    # and in the order of the rows, so that rivals wait for each other in one order.
    with noting_loaded(session, len(rows)) as is_fresh:
        for names, alike in _by_columns(rows, others):
            makers = {**sent, **dict.fromkeys(names)}
            made += _insert(session, mapper, makers, alike, named, returned=returned)
        if returned:
            return made
        stale = [instance for instance in made if not is_fresh(instance)]
    for instance in stale:
        # Its row had been deleted, and the new one is another with the same key.
        session.refresh(instance, sorted(readable(mapper)))
    register_loaded(session, made)
    return made


def _by_columns(
    rows: Rows, others: Mapping[str, bool]
) -> Iterator[tuple[tuple[str, ...], Rows]]:
    """Yield the rows, together with those beside them that fill the same columns."""
    if not others:
        yield (), rows
        return
    for names, alike in groupby(rows, lambda row: filled_by(row, others)):
        yield names, list(alike)


def _insert(
    session: Session,
    mapper: Mapper[Any],
    makers: dict[str, Maker | None],
    rows: Rows,
    named: Collection[str],
    *,
    returned: Columns,
) -> Iterable[Any]:
    dialect = session.get_bind(mapper).dialect
    # What is the same in each row is sent once.
    same = {n: the_same(m) for n, m in makers.items() if n not in named}
    same = {n: value for n, value in same.items() if value is not DIFFERENT}
    names = tuple([name for name in makers if name not in same])
    columns = [_values_of(name, makers[name], rows) for name in names]
    key = ("insert", dialect.name, names, returned, *same)
    make = partial(_statement, mapper, dialect, names, tuple(same), returned)
    source, statement = recall(mapper, key, make)
    values: Any = None if source is None else source.pack(columns, dialect)
    if values is not None:
        values |= {_constant(name): value for name, value in same.items()}
    else:
        names = (*names, *same)
        columns += [[value] * len(rows) for value in same.values()]
        inserting = returning_insert(mapper, dialect, returned)
        statement = _loading(mapper, inserting, returned)
        statement = statement.execution_options(insertmanyvalues_page_size=_PAGE)
        keys = [columns_of(mapper)[name].key for name in names]
        rows_ = zip(*columns, strict=True)
        values = [dict(zip(keys, row, strict=True)) for row in rows_]
    if returned:
        arguments = {"mapper": mapper}
        return session.execute(statement, values, bind_arguments=arguments).all()
    result = session.scalars(statement, values)
    return result.unique() if has_joins(mapper) else result


def _values_of(name: str, make: Maker | None, rows: Rows) -> list[Any]:
    """Return a column's values, with defaults where a row has None."""
    values = Column([row.get(name) for row in rows])
    if make is None or NoneType not in values.types:
        return values
    return [make() if value is None else value for value in values]


def _constant(name: str) -> str:
    """Return what the parameter with that column's one value is called."""
    return f"same_{name}"


def _statement(
    mapper: Mapper[Any],
    dialect: Dialect,
    names: Sequence[str],
    same: Sequence[str],
    returned: Columns,
) -> tuple[Source | None, Any]:
    types = {name: columns_of(mapper)[name].type for name in same}
    # In a SELECT, a parameter has no type but its own.
    constants = {
        name: cast(bindparam(_constant(name), type_=type_), unbounded(type_))
        for name, type_ in types.items()
    }
    about = (mapper, dialect, names, constants)
    source, inserting = insert_from_table(*about, returned=returned)
    return source, source and _loading(mapper, inserting, returned)


def _loading(mapper: Mapper[Any], inserting: Any, returned: Columns) -> Any:
    """Return what loads instances from the INSERT, if no columns are chosen."""
    return inserting if returned else select(mapper.class_).from_statement(inserting)


def insert_from_table(
    mapper: Mapper[Any],
    dialect: Dialect,
    names: Sequence[str],
    constants: Mapping[str, Any] = MappingProxyType({}),
    narrow: Callable[[Source, Any], Any] | None = None,
    *,
    returned: Columns = (),
) -> tuple[Source | None, Any]:
    """Return an INSERT from a table of values, if the database can have one.

    The *constants* are in every row; *narrow* may make another SELECT of the rows. What
    it returns is as for :func:`returning_insert`.
    """
    known, table = columns_of(mapper), mapper.local_table
    columns = [known[name] for name in (*names, *constants)]
    # A SELECT would have one default for all rows, of the columns that are not sent.
    others: Any = set(table.columns) - set(columns)
    facts = facts_of(dialect)
    can_insert = facts.inserts_from_table and names
    if not can_insert or any(map(has_default_here, others)):
        return None, None
    source = facts.table_of(dialect, [known[name].type for name in names])
    if source is None:
        return None, None
    values = *source.columns, *constants.values()
    rows: Any = select(*values).order_by(source.number)
    if narrow is not None:
        rows = narrow(source, rows)
    inserting = returning_insert(mapper, dialect, returned)
    return source, inserting.from_select(columns, rows)
