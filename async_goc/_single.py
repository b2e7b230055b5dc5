"""The loop: look, look again, insert under guard, and look once more."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.selectable import ForUpdateParameter

from . import _native, _savepoint
from ._completion import complete_created, complete_found
from ._conflict import Failure
from ._defaults import Defaults, Factory, NewRow
from ._events import Call, Outcome
from ._fields import T
from ._fit import is_watched
from ._lookup import Lookup, bind
from ._policy import DEFAULT_POLICY, Policy, check_policy
from ._session import alone, flush, resolve, settle
from ._turn import Turn
from ._verdict import find_rival, require_cover, warn_if_not_covered
from .exceptions import ContentionError

_INSERTS: Final[Mapping[str, Any]] = {
    "savepoint": _savepoint.insert,
    "native": _native.insert,
}


async def get_or_create(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    /,
    *criteria: ColumnElement[bool],
    defaults: Defaults | None = None,
    factory: Factory[T] | None = None,
    options: Sequence[ORMOption] = (),
    with_for_update: ForUpdateParameter = None,
    policy: Policy = DEFAULT_POLICY,
    **lookup: Any,
) -> tuple[T, bool]:
    """Return the row that matches the lookup, creating it if there is none.

    Safe against rivals in other tasks, processes and hosts, where a unique
    constraint covers the lookup. Never commits, never rolls back further than its
    own SAVEPOINT, and uses no other connection than the session's. After a lost
    race or a constraint error, the transaction and the objects loaded before are
    as they were.

    A hit is one SELECT. A miss is SELECT, SAVEPOINT, INSERT, RELEASE; a lost race
    adds a ROLLBACK TO and a SELECT. The caller's pending changes are flushed before
    the SAVEPOINT, also under ``no_autoflush``, and fail as the caller's.

    Args:
        session: The session whose transaction the row becomes part of.
        model: The mapped class.
        *criteria: SQL expressions, joined by AND, for what keywords cannot say. An
            equality ``Model.attribute == value`` among them also feeds the new row.
        defaults: Values for a new row only: a mapping of names or mapped attributes
            to values, SQL expressions, functions or coroutine functions without
            arguments; or a function or coroutine function that returns one.
            Evaluated once, on a miss, before the SAVEPOINT.
        factory: Makes the instance from the values, given as keywords; a function
            or a coroutine function. Runs inside the SAVEPOINT, again for each
            attempt. Without one, the class is called.
        options: Loader options, honoured for the row found and the row created.
        with_for_update: As for :meth:`AsyncSession.get`. The row is also read
            anew, whatever the session has loaded; pending changes are flushed first.
        policy: How the call behaves.
        **lookup: Attribute names and the values they must have: columns, synonyms,
            hybrids, composites, and many-to-one relationships. ``None`` means IS
            NULL.

    Returns:
        The instance, all of its columns loaded, and whether this call created it.
        On a created one, the collections that nothing can have filled are loaded, too
        (not with a factory, nor if anybody listens to the INSERT; and what a trigger
        adds to them is not seen).

    Raises:
        UnknownFieldError: A name is no attribute of the model.
        ContradictionError: A default contradicts the lookup.
        MissingConstraintError: No unique constraint covers the lookup, and the
            policy asks for one.
        SnapshotConflictError: A rival's row is beyond this transaction's snapshot
            (PostgreSQL, from REPEATABLE READ on).
        ContentionError: The policy's attempts are used up.
        ValueError: There is no lookup, or it cannot identify a row.
        TypeError: An argument is of the wrong type.
        sqlalchemy.exc.MultipleResultsFound: Several rows match.
        sqlalchemy.exc.InvalidRequestError: A call in another task uses the session.
        sqlalchemy.exc.IntegrityError: The new row violates a constraint, and not by
            a lost race; unchanged, with a note.
        sqlalchemy.exc.DBAPIError: Any other database error, unchanged.
    """
    check_policy(model, policy)
    with Call("get_or_create", model, policy.strategy, policy.observer) as call:
        caller = resolve(session)
        with alone(caller):
            wanted = bind(
                caller,
                model,
                criteria,
                lookup,
                options=options,
                with_for_update=with_for_update,
            )
            new_row = NewRow(wanted, defaults, factory)
            require_cover(caller, wanted, policy)
            instance, call.outcome = await _find_or_insert(
                caller, wanted, new_row, policy, call
            )
            created = call.outcome is Outcome.CREATED
            if created:
                await complete_created(
                    caller,
                    instance,
                    wanted.options,
                    is_alone=not (
                        new_row.has_factory
                        or is_watched(caller.sync_session, wanted.plan.mapper)
                    ),
                )
            else:
                await complete_found(caller, instance, wanted.plan.mapper)
    return instance, created


async def _find_or_insert(
    session: AsyncSession,
    lookup: Lookup[T],
    new_row: NewRow[T],
    policy: Policy,
    call: Call,
) -> tuple[T, Outcome]:
    """Look, queue, look again, insert under guard; if a rival was faster, look."""
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

        call.strategy = _native.strategy_for(policy.strategy, session, new_row, values)
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
