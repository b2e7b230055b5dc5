"""The loop: look, queue, look again, insert under guard, and look once more."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from ._call import Call, Outcome, Policy
from ._databases import Failure, flush, settle
from ._insert import (
    complete_created,
    complete_found,
    find_rival,
    insert_in_savepoint,
    insert_natively,
    is_watched,
    strategy_for,
)
from ._lookup import Lookup, warn_if_not_covered
from ._models import T
from ._new_row import NewRow
from ._turns import Turn
from .exceptions import ContentionError

_INSERTS: Final[Mapping[str, Any]] = {
    "savepoint": insert_in_savepoint,
    "native": insert_natively,
}


async def find_or_insert(
    session: AsyncSession,
    lookup: Lookup[T],
    new_row: NewRow[T],
    policy: Policy,
    call: Call,
) -> tuple[T, Outcome]:
    """Return the row, and how it came to be there."""
    with Turn(session, lookup, policy, call) as turn:
        await turn.reserve()
        found = await lookup.look(session)
        if found is None and await flush(session):
            found = await lookup.look(session)
        while found is None and await turn.queue():
            found = await lookup.look(session)
        if found is not None:
            return found, turn.hit()

        warn_if_not_covered(session, lookup, policy)
        values = await new_row.values()
        # Not sooner: on SQLite this takes the write lock, and the values may be slow.
        if await settle(session, lookup.plan.mapper):
            found = await lookup.look(session)
            if found is not None:
                return found, turn.hit()

        call.strategy = strategy_for(policy.strategy, session, new_row, values)
        while True:
            call.attempts += 1
            made = await _INSERTS[call.strategy](session, new_row, values)
            if not isinstance(made, Failure):
                turn.created()
                return made, Outcome.CREATED
            found = await find_rival(session, lookup, made)
            if found is not None:
                turn.lost()
                return found, Outcome.LOST_RACE
            # Unlike a skipped INSERT, a failed one says what it is in conflict with.
            call.strategy = "savepoint"
            if made.error is not None and call.attempts >= policy.attempts:
                args = (lookup.plan.model, lookup.names, call.attempts)
                raise ContentionError(*args) from made.error


async def obtain(
    session: AsyncSession,
    lookup: Lookup[T],
    new_row: NewRow[T],
    policy: Policy,
    call: Call,
) -> tuple[T, bool]:
    """Return the row, readable, and whether it has been created."""
    instance, call.outcome = await find_or_insert(
        session, lookup, new_row, policy, call
    )
    created = call.outcome is Outcome.CREATED
    if created:
        is_alone = not (
            new_row.has_factory or is_watched(session.sync_session, new_row.mapper)
        )
        options = lookup.options
        await complete_created(session, instance, options, is_alone=is_alone)
    else:
        await complete_found(session, instance, new_row.mapper)
    return instance, created
