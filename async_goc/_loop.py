"""The loop: look, queue, look again, insert under guard, and look once more."""

from collections.abc import Mapping
from typing import Any, Final

from ._call import Call, Outcome, Strategy
from ._databases import Failure, flush, settle, violation
from ._insert import (
    complete_created,
    complete_found,
    find_rival,
    insert_in_savepoint,
    insert_natively,
    strategy_for,
)
from ._lookup import Lookup, refuse_autocommit, warn_if_not_covered, warn_on_hit
from ._models import T
from ._new_row import NewRow
from ._turns import EarlyTurn, Turn
from .exceptions import ContentionError

_INSERTS: Final[Mapping[str, Any]] = {
    "savepoint": insert_in_savepoint,
    "native": insert_natively,
}


async def find_or_create(
    call: Call,
    lookup: Lookup[T],
    new_row: NewRow[T] | None = None,
    strategy: Strategy | None = None,
    *,
    early: EarlyTurn | None = None,
    looked: float | None = None,
) -> tuple[T, bool]:
    """Return the row, readable, and whether it has been created.

    Without a *new_row*, it gets what is looked up. *early*: the turn that was taken, or
    tried, before the call. *looked*: when a look began that has not found the row.
    """
    session, mapper = call.session, lookup.plan.mapper
    if lookup.lock is not None:
        call.use_writer(mapper)
    for _ in range(call.policy.attempts):
        turn, found = Turn(call, lookup, early, looked), None
        # Most rows are there, and then whose turn it is does not matter.
        if turn.looks_first():
            found = await lookup.look(session)
        early = looked = None
        if found is None:
            args = (lookup, new_row, strategy or call.policy.strategy)
            instance, call.outcome = await find_or_insert(call, turn, *args)
        else:
            instance, call.outcome = found, Outcome.HIT
        if call.outcome is Outcome.CREATED:
            break
        if lookup.plan.unjudged:
            warn_on_hit(call, lookup)
        if type(instance) is mapper.class_:
            return instance, False  # The SELECT has loaded all of its columns.
        call.use_writer(mapper)
        is_rivals = call.outcome is Outcome.LOST_RACE
        if await complete_found(session, instance, lookup, is_rivals=is_rivals):
            return instance, False
        # A rival has deleted the row in the meantime, which is a miss.
    else:
        raise vanished(call, lookup)
    is_alone = new_row is None or not new_row.has_factory
    await complete_created(session, instance, lookup.options, is_alone=is_alone)
    return instance, True


def vanished(call: Call, lookup: Lookup[Any]) -> ContentionError:
    """Build the error for a row that was found, and deleted, in each attempt."""
    args = (lookup.plan.model, lookup.names, call.policy.attempts)
    return ContentionError(*args, has_vanished=True)


async def find_or_insert(
    call: Call,
    turn: Turn,
    lookup: Lookup[T],
    new_row: NewRow[T] | None,
    strategy: Strategy,
) -> tuple[T, Outcome]:
    """Return the row, and how it came to be there."""
    session, mapper = call.session, lookup.plan.mapper
    with turn:
        found = await _look(call, turn, lookup)
        if found is not None:
            return found, turn.hit()

        keys = turn.keys
        if not keys:  # Making the key asks for that as well.
            own = session.sync_session
            refuse_autocommit(own, own.get_bind(mapper))
        warn_if_not_covered(call, lookup)
        new_row = new_row or NewRow(lookup)
        # The values first: they may be slow, and settling takes SQLite's write lock.
        values = await new_row.values()
        is_out_of_date = await settle(session, mapper)
        if call.policy.advisory_lock:
            await turn.lock((lookup, [lookup.values]))
            is_out_of_date = True
        if is_out_of_date:
            found = await lookup.look(session)
            if found is not None:
                return found, turn.hit()

        strategy = strategy_for(strategy, session, new_row, values)
        instance, outcome = await _insert(call, lookup, new_row, values, strategy)
        if outcome is Outcome.CREATED:
            turn.created(keys)
        else:
            turn.lost(keys)
        return instance, outcome


async def _look(call: Call, turn: Turn, lookup: Lookup[T]) -> T | None:
    """Queue for the key, and look until neither this process nor the session has it."""
    session, found = call.session, None
    if not turn.has_looked:
        await turn.queue(turn.keys, has_looked=False)
        found = await lookup.look(session)
    if found is None:
        # A replica lags, and what is pending may be the row.
        is_elsewhere = call.use_writer(lookup.plan.mapper)
        if await flush(session) or is_elsewhere:
            found = await lookup.look(session)
    while found is None and await turn.queue(turn.keys):
        found = await lookup.look(session)
    return found


async def _insert(
    call: Call,
    lookup: Lookup[T],
    new_row: NewRow[T],
    values: Mapping[str, Any],
    strategy: Strategy,
) -> tuple[T, Outcome]:
    """Insert the row, or return the rival's; try again if that has vanished."""
    attempt = 1
    call.attempts += 1
    while True:
        call.strategy = strategy
        made = await _INSERTS[strategy](call, new_row, values)
        if not isinstance(made, Failure):
            return made, Outcome.CREATED
        found = await find_rival(call, lookup, made)
        if found is not None:
            return found, Outcome.LOST_RACE
        if made.error is None:
            # A skipped INSERT does not say what it conflicts with. One inside a
            # SAVEPOINT does, and so it ends the attempt.
            strategy = "savepoint"
        elif attempt < call.policy.attempts:
            attempt += 1
            call.attempts += 1
        else:
            args = (lookup.plan.model, lookup.names, attempt)
            label = violation(made.error).label
            raise ContentionError(*args, label) from made.error
