"""Look for many rows by one SELECT."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Result, and_, inspect, literal
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
from .ledger import picked
from .rows import Columns, Nulls, Places, Shape

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


def look(session: Session, wanted: Input, places: Places, lock: Lock = None) -> None:
    """Give each row what it is answered by, if the database has it."""
    answers = wanted.ledger.answers
    for alike, results in _select(session, wanted, places, wanted.options, lock):
        _assign(wanted, alike, results)
    for theirs, incomplete in _by_subclass(wanted, places, _lacks_columns):
        # They are kept, or SQLAlchemy would forget what the options have loaded.
        known = picked(answers, incomplete)
        for place in incomplete:
            answers[place] = None  # A rival may delete it in the meantime.
        look(session, theirs, incomplete, lock)
        del known


def look_for_rivals(session: Session, wanted: Input, places: Places) -> None:
    """Give each row its answer, if a rival's row was in the way of its INSERT."""

    def read(lock: Any) -> object:
        look(session, wanted, wanted.ledger.missing(places), lock)
        return None if wanted.ledger.missing(places) else places

    read_rivals(wanted.lookup, session, read)


def lock_and_refresh(session: Session, wanted: Input, places: Places) -> None:
    """Lock rows and refresh their columns; a row that is gone loses its answer."""
    mapper, answers = wanted.shape.mapper, wanted.ledger.answers
    known = picked(answers, places)
    deferred = {
        name
        for name in set(mapper.column_attrs.keys()) - readable(mapper)
        if any(name in vars(instance) for instance in known)
    }
    also = [undefer(getattr(mapper.class_, name)) for name in sorted(deferred)]
    options = (*wanted.options, *also)
    # Of the model's own tables: its subclasses may be joined by an outer join.
    lock = {"of": tuple(mapper.tables)}
    selected = _select(session, wanted, places, options, lock)
    with noting_loaded(session) as is_fresh:
        for alike, results in selected:
            instances = picked(answers, alike)
            for place in alike:
                answers[place] = None
            # Expired before the SELECT, the columns could be loaded by a listener that
            # touches them, with values from before the lock.
            with refreshing(session, instances, readable(mapper) | deferred):
                _assign(wanted, alike, results)
    for instance, before in zip(picked(answers, places), known, strict=True):
        # The row has changed its key with another one.
        is_missed = instance is not None and instance is not before
        if is_missed and not is_fresh(instance):
            refresh_columns(session, instance, lock)
    for theirs, locked in _by_subclass(wanted, places, _has_own_columns):
        lock_and_refresh(session, theirs, locked)


def is_stale(instance: object) -> bool:
    """Whether a column is to be read again before it can be used."""
    state: Any = inspect(instance)
    return not state.expired_attributes.isdisjoint(readable(state.mapper))


def _by_subclass(
    wanted: Input, places: Places, is_wanted: Callable[[Mapper[Any], Any], bool]
) -> Iterator[tuple[Input, Places]]:
    """Yield what to look up for each subclass, and its rows that are wanted."""
    mapper, names = wanted.shape.mapper, wanted.shape.names
    if mapper.polymorphic_on is None:
        return
    found: dict[Mapper[Any], list[int]] = {}
    for place in places:
        answer = wanted.ledger.answers[place]
        is_own = type(answer) is mapper.class_
        is_other = isinstance(answer, mapper.class_) and not is_own
        if is_other and is_wanted(mapper, answer):
            found.setdefault(inspect(answer).mapper, []).append(place)
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


def _assign(wanted: Input, places: Places, results: Iterable[Result[Any]]) -> None:
    shape, numbers = wanted.shape, list[int]()
    for result in results:
        answers, found = wanted.answers.read(result)
        wanted.ledger.assign(picked(places, found), answers)
        numbers += found
    if len(set(numbers)) < len(numbers):
        ((index, _),) = Counter(numbers).most_common(1)
        names = ", ".join(shape.names)
        msg = f"several {shape.mapper.class_.__name__} have the {names} of key {index}"
        raise MultipleResultsFound(msg)


def _select(
    session: Session,
    wanted: Input,
    places: Places,
    options: Sequence[ORMOption],
    lock: Lock,
) -> Iterator[tuple[Places, Sequence[Result[Any]]]]:
    """Execute a SELECT for rows with the same NULLs; yield them, and the results."""
    keys = wanted.ledger.keys_of(places)
    is_repeating = _repeats(session, wanted, options)
    for nulls, indexes in wanted.ledger.by_nulls(keys).items():
        pairs = zip(keys, nulls, strict=True)
        columns = [c.pick(indexes) for c, is_null in pairs if not is_null]
        results: list[Result[Any]] = []
        for statement, parameters in _statements(session, wanted, columns, nulls, lock):
            result = session.execute(statement.options(*options), parameters)
            results.append(result.unique() if is_repeating else result)
        yield picked(places, indexes), results


def _repeats(session: Session, wanted: Input, options: Sequence[ORMOption]) -> bool:
    """Whether the SELECT may return a row more than once."""
    has_listeners = bool(session.dispatch.do_orm_execute)
    return wanted.shape.is_joined or bool(options) or has_listeners


def _statements(
    session: Session,
    wanted: Input,
    columns: Columns,
    nulls: Nulls,
    lock: Lock,
) -> Iterator[tuple[Any, Any]]:
    """Yield the SELECT and its parameters, or one for each page of keys."""
    shape, answers = wanted.shape, wanted.answers
    dialect = session.get_bind(shape.mapper).dialect
    facts, plain = facts_of(dialect), _plain(wanted, nulls, lock)
    if not columns:
        # All such keys of a call are one row.
        yield plain.add_columns(literal(0)), {}
        return
    pairs = zip(shape.attributes, nulls, strict=True)
    attributes = [attribute for attribute, is_null in pairs if not is_null]
    types = [attribute.type for attribute in attributes]

    def compile_() -> tuple[Any, Source | None]:
        source = facts.table_of(dialect, types, is_long=is_long)
        joined = source and _joined(plain, attributes, source, lock)
        if source and is_plain:
            joined = answers.gather(joined, shape.mapper, source.number, dialect)
        return joined, source

    count = len(columns[0])
    is_long = count > _LONG
    # Neither rows that repeat nor those to lock can be gathered.
    is_plain = lock is None and not _repeats(session, wanted, wanted.options)
    how = (is_long, is_plain, *(lock or ()))
    key = ("look", answers, shape.names, nulls, dialect.name, *how)
    statement, source = recall(shape.mapper, key, compile_)
    packed = None if source is None else source.pack(columns, dialect)
    if packed is not None:
        yield statement, packed
        return
    size = facts.list_parameters // (len(columns) + 1)
    for start in range(0, count, size):
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
