"""Look for many rows by one SELECT."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import and_, inspect, literal
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.orm import Mapper, Session, undefer
from sqlalchemy.orm.interfaces import ORMOption

from .._databases import Source, facts_of
from .._lookup import (
    noting_loaded,
    read_rivals,
    refresh_columns,
    refreshing,
)
from .._models import readable, recall
from .answers import Lock
from .input import Input
from .rows import Nulls, Row, Shape, by_nulls

# More keys than this are not shown to the planner; see `tables`.
_LONG: Final = 1_000

# The SELECT joins a table of the keys, and the key's number in the result tells which
# row it is for. Where the values fit, that table is made of one parameter (an array for
# each column, or a document), and the text does not depend on the number of keys. Where
# they do not, it is a list of VALUES, which has a page of keys at a time.
#
# Keys with NULLs need a SELECT of their own, because `=` finds no NULL: one for each
# set of columns that are NULL.
#
# A row may be of a subclass, which has columns of its own. They are read by the same
# SELECT once more, of that class: one for each class, and not one for each row.
#
# SQLAlchemy executes a SELECT at once, and makes instances as its result is read. That
# order is what `lock_and_refresh` needs: lock, expire the columns, fill them in.


def look(
    session: Session, wanted: Input, rows: Sequence[Row], lock: Lock = None
) -> None:
    """Give each row what it is answered by, if the database has it."""
    found = _select(session, wanted, rows, wanted.options, lock)
    for alike, results in found:
        _assign(wanted.shape, alike, results)
    for theirs, incomplete in _by_subclass(wanted, rows, _lacks_columns):
        # They are kept, or SQLAlchemy would forget what the options have loaded.
        known = [row.instance for row in incomplete]
        for row in incomplete:
            row.instance = None  # A rival may delete it in the meantime.
        look(session, theirs, incomplete, lock)
        del known


def look_for_rivals(session: Session, wanted: Input, rows: Sequence[Row]) -> None:
    """Give each row its answer, if a rival's row was in the way of its INSERT."""

    def read(lock: Any) -> object:
        hidden = [row for row in rows if row.instance is None]
        look(session, wanted, hidden, lock)
        return None if any(row.instance is None for row in hidden) else rows

    read_rivals(wanted.lookup, session, read)


def lock_and_refresh(session: Session, wanted: Input, rows: Sequence[Row]) -> None:
    """Lock rows and refresh their columns; a row that is gone loses its instance."""
    mapper = wanted.shape.mapper
    known = [row.instance for row in rows]
    deferred = {
        name
        for name in set(mapper.column_attrs.keys()) - readable(mapper)
        if any(name in vars(instance) for instance in known)
    }
    also = [undefer(getattr(mapper.class_, name)) for name in sorted(deferred)]
    options = (*wanted.options, *also)
    # Of the model's own tables: its subclasses may be joined by an outer join.
    lock = {"of": tuple(mapper.tables)}
    selected = _select(session, wanted, rows, options, lock)
    with noting_loaded(session) as is_fresh:
        for alike, results in selected:
            instances = [row.instance for row in alike]
            for row in alike:
                row.instance = None
            # Expired before the SELECT, the columns could be loaded by a listener that
            # touches them, with values from before the lock.
            with refreshing(session, instances, readable(mapper) | deferred):
                _assign(wanted.shape, alike, results)
    for row, before in zip(rows, known, strict=True):
        # The row has changed its key with another one.
        is_missed = row.instance is not None and row.instance is not before
        if is_missed and not is_fresh(row.instance):
            refresh_columns(session, row.instance, lock)
    for theirs, locked in _by_subclass(wanted, rows, _has_own_columns):
        lock_and_refresh(session, theirs, locked)


def is_stale(instance: object) -> bool:
    """Whether a column is to be read again before it can be used."""
    state: Any = inspect(instance)
    return not state.expired_attributes.isdisjoint(readable(state.mapper))


def _by_subclass(
    wanted: Input, rows: Sequence[Row], is_wanted: Callable[[Mapper[Any], Any], bool]
) -> Iterator[tuple[Input, Sequence[Row]]]:
    """Yield what to look up for each subclass, and its rows that are wanted."""
    mapper, names = wanted.shape.mapper, wanted.shape.names
    if mapper.polymorphic_on is None:
        return
    found: dict[Mapper[Any], list[Row]] = {}
    for row in rows:
        is_own = type(row.instance) is mapper.class_
        is_other = isinstance(row.instance, mapper.class_) and not is_own
        if is_other and is_wanted(mapper, row.instance):
            found.setdefault(inspect(row.instance).mapper, []).append(row)
    for subclass, theirs in found.items():
        # The SELECT before has applied the options.
        yield replace(wanted, shape=Shape(subclass, names), options=()), theirs


def _lacks_columns(mapper: Mapper[Any], instance: Any) -> bool:
    """Whether its subclass has columns that are not loaded."""
    state: Any = inspect(instance)
    return not (readable(state.mapper) - readable(mapper)).issubset(state.dict)


def _has_own_columns(mapper: Mapper[Any], instance: Any) -> bool:
    """Whether its subclass has columns that a SELECT of the model need not read."""
    own: Any = inspect(instance).mapper.column_attrs
    return not own.keys() <= mapper.column_attrs.keys()


def _assign(shape: Shape, rows: Sequence[Row], results: Iterable[Any]) -> None:
    numbers: list[int] = []
    for result in results:
        for instance, number in result:
            rows[number].instance = instance
            numbers.append(number)
    if len(set(numbers)) < len(numbers):
        ((index, _),) = Counter(numbers).most_common(1)
        names = ", ".join(shape.names)
        msg = f"several {shape.mapper.class_.__name__} have the {names} of key {index}"
        raise MultipleResultsFound(msg)


def _select(
    session: Session,
    wanted: Input,
    rows: Sequence[Row],
    options: Sequence[ORMOption],
    lock: Lock,
) -> Iterator[tuple[Sequence[Row], Sequence[Any]]]:
    """Execute a SELECT for rows with the same NULLs; yield them, and the results."""
    is_joined, numbered = wanted.shape.is_joined, wanted.answers.numbered
    is_repeating = is_joined or options or session.dispatch.do_orm_execute
    for nulls, places in by_nulls([row.key for row in rows]).items():
        alike = [rows[place] for place in places]
        results: list[Any] = []
        for statement, parameters in _statements(session, wanted, alike, nulls, lock):
            result = session.execute(statement.options(*options), parameters)
            results.append(numbered(result.unique() if is_repeating else result))
        yield alike, results


def _statements(
    session: Session,
    wanted: Input,
    rows: Sequence[Row],
    nulls: Nulls,
    lock: Lock,
) -> Iterator[tuple[Any, Any]]:
    """Yield the SELECT and its parameters, or one for each page of keys."""
    shape, answers = wanted.shape, wanted.answers
    dialect = session.get_bind(shape.mapper).dialect
    facts, plain = facts_of(dialect), _plain(wanted, nulls, lock)
    left = [place for place, is_null in enumerate(nulls) if not is_null]
    if not left:
        # All such keys of a call are one row.
        yield plain.add_columns(literal(0)), {}
        return
    attributes = [shape.attributes[place] for place in left]
    types = [attribute.type for attribute in attributes]

    def compile_() -> tuple[Any, Source | None]:
        source = facts.table_of(dialect, types, is_long=is_long)
        return source and _joined(plain, attributes, source, lock), source

    is_long = len(rows) > _LONG
    how = (is_long, *(lock or ()))
    key = ("look", answers, shape.names, nulls, dialect.name, *how)
    statement, source = recall(shape.mapper, key, compile_)
    columns = [[row.key[place] for row in rows] for place in left]
    packed = None if source is None else source.pack(columns, dialect)
    if packed is not None:
        yield statement, packed
        return
    size = facts.list_parameters // (len(left) + 1)
    for start in range(0, len(rows), size):
        page = [column[start : start + size] for column in columns]
        listed = facts.list_of(attributes, page, start)
        statement = _joined(plain, attributes, listed, lock)
        yield statement, listed.pack(page, dialect)


def _joined(plain: Any, attributes: Sequence[Any], source: Source, lock: Lock) -> Any:
    """Return the SELECT, joined to a table of keys."""
    pairs = zip(attributes, source.columns, strict=True)
    are_equal = and_(*(attribute == column for attribute, column in pairs))
    both = plain.add_columns(source.number).join(source.table, are_equal)
    # All calls lock rows in the order of their keys, and so cannot deadlock.
    return both if lock is None else both.order_by(source.number)


def _plain(wanted: Input, nulls: Nulls, lock: Lock) -> Any:
    """Return the SELECT without keys, but for those that are NULL."""
    shape = wanted.shape
    pairs = zip(shape.attributes, nulls, strict=True)
    are_null = [attribute.is_(None) for attribute, is_null in pairs if is_null]
    return wanted.answers.select(shape.mapper, lock).where(*are_null)
