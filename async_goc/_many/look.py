"""Look for many rows by one statement."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from sqlalchemy import and_, inspect, select, tuple_
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.orm import Session, undefer
from sqlalchemy.orm.interfaces import ORMOption

from .._databases import Source, facts_of
from .._lookup import refresh_columns, refreshing
from .._models import memory, readable
from .rows import Row, Shape, by_nulls

# Below what any driver takes, for statements with a parameter for each value.
_MOST_PARAMETERS: Final = 30_000


def look(
    session: Session,
    shape: Shape,
    rows: Sequence[Row[Any]],
    options: Sequence[ORMOption] = (),
) -> None:
    """Give each row its instance, if the database has it.

    Raises:
        sqlalchemy.exc.MultipleResultsFound: A key has several rows.
    """
    for nulls, places in by_nulls([row.key for row in rows]).items():
        alike = [rows[place] for place in places]
        load = _ask(session, shape, nulls, alike, options, is_locking=False)
        _assign(shape, load())


def look_anew(
    session: Session,
    shape: Shape,
    rows: Sequence[Row[Any]],
    options: Sequence[ORMOption] = (),
) -> None:
    """Lock rows that have been found, and read their columns anew.

    Those that are not there any more lose their instance.

    Raises:
        sqlalchemy.exc.MultipleResultsFound: A key has several rows.
    """
    mapper = shape.mapper
    loaded = set(session.identity_map.all_states())
    known = [row.instance for row in rows]
    deferred = {
        name
        for name in set(mapper.column_attrs.keys()) - readable(mapper)
        if any(name in vars(instance) for instance in known)
    }
    also = [undefer(getattr(mapper.class_, name)) for name in sorted(deferred)]
    for nulls, places in by_nulls([row.key for row in rows]).items():
        alike = [rows[place] for place in places]
        found = [row.instance for row in alike]
        load = _ask(session, shape, nulls, alike, (*options, *also), is_locking=True)
        for row in alike:
            row.instance = None
        # Not sooner: somebody who listens might have them loaded before the lock.
        with refreshing(session, found, readable(mapper) | deferred):
            _assign(shape, load())
    for row, before in zip(rows, known, strict=True):
        # It has got another one's key, or columns that the SELECT has not read.
        is_missed = row.instance is not before or type(before) is not mapper.class_
        if row.instance is not None and is_missed and inspect(row.instance) in loaded:
            refresh_columns(session, row.instance, {"of": mapper.class_})


def _assign(shape: Shape, found: Sequence[tuple[Row[Any], Any]]) -> None:
    for row, instance in found:
        row.instance = instance
    counts = Counter([row for row, _ in found])
    if len(counts) < len(found):
        ((row, _),) = counts.most_common(1)
        msg = f"several {shape.mapper.class_.__name__} have the key {row.key!r}"
        raise MultipleResultsFound(msg)


def _ask(
    session: Session,
    shape: Shape,
    nulls: tuple[bool, ...],
    rows: Sequence[Row[Any]],
    options: Sequence[ORMOption],
    *,
    is_locking: bool,
) -> Callable[[], list[tuple[Row[Any], Any]]]:
    """Read the rows; return what loads their instances from that."""
    dialect = session.get_bind(shape.mapper).dialect
    key = ("look", shape.names, nulls, dialect.name, is_locking)
    source, statement = memory(
        shape.mapper,
        key,
        lambda: _statement(shape, nulls, dialect, is_locking=is_locking),
    )
    places = [place for place, is_null in enumerate(nulls) if not is_null]
    columns = [[row.key[place] for row in rows] for place in places]
    packed = None if source is None else source.pack(columns)
    if packed is not None:
        result: Any = session.execute(statement.options(*options), packed)
        if shape.is_joined or options or session.dispatch.do_orm_execute:
            result = result.unique()
        return lambda: [(rows[number], instance) for instance, number in result]
    plain: Any = _selected(shape, nulls, is_locking=is_locking)
    left = [shape.attributes[place] for place in places]
    results = [
        session.scalars(page.options(*options)).unique()
        for page in _pages(plain, left, columns)
    ]

    def load() -> list[tuple[Row[Any], Any]]:
        by_key = {row.frozen: row for row in rows}
        found = list(chain.from_iterable(results))
        keys = shape.keys_of(found)
        return [(by_key[k], i) for k, i in zip(keys, found, strict=True) if k in by_key]

    return load


def _pages(
    statement: Any, left: Sequence[Any], columns: Sequence[Sequence[Any]]
) -> Iterator[Any]:
    """Yield the statement for so many keys at a time as any driver takes."""
    if not left:
        yield statement
        return
    size = _MOST_PARAMETERS // len(left)
    for start in range(0, len(columns[0]), size):
        page = [column[start : start + size] for column in columns]
        # Rows that are locked are locked in one order.
        if len(left) == 1:
            yield statement.where(left[0].in_(page[0])).order_by(*left)
        else:
            keys = list(zip(*page, strict=True))
            yield statement.where(tuple_(*left).in_(keys)).order_by(*left)


def _selected(shape: Shape, nulls: tuple[bool, ...], *, is_locking: bool) -> Any:
    model = shape.mapper.class_
    pairs = zip(shape.attributes, nulls, strict=True)
    statement = select(model).where(*(a.is_(None) for a, is_null in pairs if is_null))
    return statement.with_for_update(of=model) if is_locking else statement


def _statement(
    shape: Shape, nulls: tuple[bool, ...], dialect: Dialect, *, is_locking: bool
) -> tuple[Source | None, Any]:
    pairs = zip(shape.attributes, nulls, strict=True)
    left = [attribute for attribute, is_null in pairs if not is_null]
    types = [attribute.type for attribute in left]
    source = facts_of(dialect).table_of(dialect, types) if left else None
    if source is None:
        return None, None
    equal = [a == c for a, c in zip(left, source.columns, strict=True)]
    statement = _selected(shape, nulls, is_locking=is_locking)
    statement = statement.add_columns(source.number).join(source.table, and_(*equal))
    # Rows are locked in the order of their keys, as everybody else locks them.
    return source, statement.order_by(source.number) if is_locking else statement
