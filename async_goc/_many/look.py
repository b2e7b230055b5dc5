"""Look for many rows by one SELECT."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from sqlalchemy import Dialect, and_, inspect, select, tuple_
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.orm import Session, undefer
from sqlalchemy.orm.interfaces import ORMOption

from .._databases import Source, facts_of
from .._lookup import refresh_columns, refreshing
from .._models import memory, readable
from .input import Input
from .rows import Nulls, Row, Shape, by_nulls

# Below what any driver takes, for statements with a parameter for each value.
_MOST_PARAMETERS: Final = 30_000

# There are two ways to read many rows. Where the database can make a table of the keys
# from one parameter (an array for each column, or a document), the SELECT joins it: its
# text does not depend on the number of keys, and the key's number in the result tells
# which row it is for. Where it cannot, or some values do not fit into the parameter,
# the keys are listed in IN (…), as many at a time as a driver takes, and each row is
# told by the key of its instance.
#
# Keys with NULLs need a SELECT of their own, because `=` finds no NULL: one for each
# set of columns that are NULL.
#
# SQLAlchemy executes a SELECT at once, and makes instances as its result is read. That
# order is what `lock_and_refresh` needs: lock, expire the columns, fill them in.


def look(session: Session, wanted: Input, rows: Sequence[Row]) -> None:
    """Give each row its instance, if the database has it."""
    for _, found in _select(session, wanted.shape, rows, wanted.options):
        _assign(wanted.shape, found)


def lock_and_refresh(session: Session, wanted: Input, rows: Sequence[Row]) -> None:
    """Lock rows and refresh their columns; a row that is gone loses its instance."""
    mapper = wanted.shape.mapper
    loaded = set(session.identity_map.all_states())
    known = [row.instance for row in rows]
    deferred = {
        name
        for name in set(mapper.column_attrs.keys()) - readable(mapper)
        if any(name in vars(instance) for instance in known)
    }
    also = [undefer(getattr(mapper.class_, name)) for name in sorted(deferred)]
    options = (*wanted.options, *also)
    for alike, found in _select(session, wanted.shape, rows, options, is_locking=True):
        instances = [row.instance for row in alike]
        for row in alike:
            row.instance = None
        # Expired before the SELECT, the columns could be loaded by a listener that
        # touches them, with values from before the lock.
        with refreshing(session, instances, readable(mapper) | deferred):
            _assign(wanted.shape, found)
    for row, before in zip(rows, known, strict=True):
        # The row has changed its key with another one, or its class has columns that
        # the SELECT has not read.
        is_missed = row.instance is not before or type(before) is not mapper.class_
        if row.instance is not None and is_missed and inspect(row.instance) in loaded:
            refresh_columns(session, row.instance, {"of": mapper.class_})


def _assign(shape: Shape, found: Iterable[tuple[Row, Any]]) -> None:
    pairs = list(found)
    for row, instance in pairs:
        row.instance = instance
    counts = Counter([row for row, _ in pairs])
    if len(counts) < len(pairs):
        ((row, _),) = counts.most_common(1)
        msg = f"several {shape.mapper.class_.__name__} have the key {row.key!r}"
        raise MultipleResultsFound(msg)


def _select(
    session: Session,
    shape: Shape,
    rows: Sequence[Row],
    options: Sequence[ORMOption],
    *,
    is_locking: bool = False,
) -> Iterator[tuple[Sequence[Row], Iterable[tuple[Row, Any]]]]:
    """Execute a SELECT for rows with the same NULLs; yield them, and what it finds."""
    dialect = session.get_bind(shape.mapper).dialect
    for nulls, places in by_nulls([row.key for row in rows]).items():
        alike = [rows[place] for place in places]
        plain, joined, source = memory(
            shape.mapper,
            ("look", shape.names, nulls, dialect.name, is_locking),
            partial(_compile, shape, nulls, dialect, is_locking=is_locking),
        )
        left = [place for place, is_null in enumerate(nulls) if not is_null]
        columns = [[row.key[place] for row in alike] for place in left]
        packed = None if source is None else source.pack(columns)
        if packed is not None:
            result: Any = session.execute(joined.options(*options), packed)
            if shape.is_joined or options or session.dispatch.do_orm_execute:
                result = result.unique()
            yield alike, _by_number(alike, result)
            continue
        attributes = [shape.attributes[place] for place in left]
        pages = _pages(plain.options(*options), attributes, columns)
        results = [session.scalars(page).unique() for page in pages]
        yield alike, _by_key(alike, shape, results)


def _by_number(
    rows: Sequence[Row], result: Iterable[tuple[Any, int]]
) -> Iterator[tuple[Row, Any]]:
    for instance, number in result:
        yield rows[number], instance


def _by_key(
    rows: Sequence[Row], shape: Shape, results: Iterable[Iterable[Any]]
) -> Iterator[tuple[Row, Any]]:
    by_key = {row.frozen: row for row in rows}
    found = list(chain.from_iterable(results))
    for key, instance in zip(shape.keys_of(found), found, strict=True):
        if key in by_key:
            yield by_key[key], instance


def _pages(
    statement: Any, left: Sequence[Any], columns: Sequence[Sequence[Any]]
) -> Iterator[Any]:
    """Yield the statement for so many keys at a time as any driver takes."""
    if not left:
        yield statement
        return
    is_single = len(left) == 1
    term: Any = left[0] if is_single else tuple_(*left)
    keys = columns[0] if is_single else list(zip(*columns, strict=True))
    size = _MOST_PARAMETERS // len(left)
    for start in range(0, len(keys), size):
        page = keys[start : start + size]
        # All calls lock rows in the order of their keys, and so cannot deadlock.
        yield statement.where(term.in_(page)).order_by(*left)


def _compile(
    shape: Shape, nulls: Nulls, dialect: Dialect, *, is_locking: bool
) -> tuple[Any, Any, Source | None]:
    """Return the SELECT without keys, and the one that joins a table of them."""
    model = shape.mapper.class_
    pairs = list(zip(shape.attributes, nulls, strict=True))
    plain: Any = select(model).where(*(a.is_(None) for a, is_null in pairs if is_null))
    if is_locking:
        plain = plain.with_for_update(of=model)
    left = [attribute for attribute, is_null in pairs if not is_null]
    types = [attribute.type for attribute in left]
    source = facts_of(dialect).table_of(dialect, types) if left else None
    if source is None:
        return plain, None, None
    equal = [a == c for a, c in zip(left, source.columns, strict=True)]
    joined = plain.add_columns(source.number).join(source.table, and_(*equal))
    # All calls lock rows in the order of their keys, and so cannot deadlock.
    return plain, joined.order_by(source.number) if is_locking else joined, source
