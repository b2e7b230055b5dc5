"""Insert the rows that a bulk call lacks, all by one statement or one flush."""

from collections.abc import Hashable, Mapping, Sequence
from logging import getLogger
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from .._databases import Failure, is_duplicate_key
from .._insert import (
    constructed,
    fill_empty,
    insert_all,
    is_watched,
    obstacle_to_many,
    refuse_many,
)
from .._lookup import bind
from .._loop import find_or_create
from .._new_row import NewRow, has_constructor
from .input import Input
from .ledger import picked
from .rows import Places, Values, are_mixed_up

_log: Final = getLogger("async_goc")


async def insert(wanted: Input, places: Places) -> Mapping[Hashable, Any]:
    """Insert rows that conflict with no other; return those made for no known row."""
    call, shape = wanted.call, wanted.shape
    values = picked(wanted.ledger.new_values, places)
    obstacle = obstacle_to_many(
        call.session.sync_session, shape.mapper, values, shape.names
    )
    pairs = zip(shape.attributes, wanted.ledger.keys, strict=True)
    documents = [column for a, column in pairs if a.type.should_evaluate_none]
    if any(column[place] is None for column in documents for place in places):
        obstacle = "None in the key means NULL, and elsewhere a JSON null"
    if obstacle is None and has_constructor(shape.mapper):
        values, obstacle = constructed(shape.mapper, values)
    call.attempts += 1
    # The policy's strategy does not count: the savepoint is around the whole call.
    call.strategy = "native" if obstacle is None else "savepoint"
    try:
        if obstacle is None:
            return await _insert_natively(wanted, places, values)
        name = call.model.__name__
        _log.debug("many %s are inserted by the unit of work: %s", name, obstacle)
        await _insert_by_unit_of_work(wanted, places)
    except DBAPIError as error:
        refuse_many(wanted.lookup, error)
    return {}


async def insert_alone(wanted: Input, place: int, *, is_locking: bool = False) -> None:
    """Find or insert one row by the loop for one."""
    # A statement for many that skips a row cannot tell what the row conflicts with; an
    # INSERT inside a SAVEPOINT can.
    new_row = _new_row(wanted, place, is_locking=is_locking)
    instance, is_created = await find_or_create(
        wanted.call, new_row.lookup, new_row, "savepoint"
    )
    note = wanted.ledger.create if is_created else wanted.ledger.assign
    note([place], [wanted.answers.of(instance)])


async def _insert_natively(
    wanted: Input, places: Places, values: Sequence[Values]
) -> dict[Hashable, Any]:
    answers, ledger = wanted.answers, wanted.ledger
    about = (wanted.call, wanted.lookup, wanted.shape)
    made, returned = await answers.insert(*about, values)
    if len(made) < len(places) or are_mixed_up(ledger.keys_of(places), returned):
        # The database says which is which, when it is asked for all of them.
        return {answers.mark(answer): answer for answer in made}
    ledger.create(places, made)
    return {}


async def _insert_by_unit_of_work(wanted: Input, places: Places) -> None:
    new_rows = [_new_row(wanted, place) for place in places]
    entries = [(new_row, await new_row.values()) for new_row in new_rows]
    made = await insert_all(wanted.call, entries)
    if isinstance(made, Failure):
        if made.error is not None and not is_duplicate_key(made.error):
            raise made.error
        # The caller looks for the rows of rivals next, and inserts the others again.
        return
    wanted.ledger.create(places, list(map(wanted.answers.of, made)))
    if not is_watched(wanted.call.session.sync_session, wanted.shape.mapper):
        fill_empty(made, wanted.shape.mapper)


def _new_row(wanted: Input, place: int, *, is_locking: bool = False) -> NewRow[Any]:
    session, model = wanted.call.session, wanted.call.model
    given, new_values = wanted.ledger.values[place], wanted.ledger.new_values[place]
    values = {name: given[name] for name in wanted.shape.names}
    options = wanted.options
    limit = wanted.lookup.lock_timeout
    how: Any = {"options": options, "lock_timeout": limit}
    lookup = bind(session, model, (), values, is_updating=is_locking, **how)
    rest = {n: value for n, value in new_values.items() if n not in values}
    return NewRow(lookup, rest, may_contradict=True)
