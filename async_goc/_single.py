"""Get one row, or create it; update it, or create it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.selectable import ForUpdateParameter
from sqlalchemy.util import greenlet_spawn

from ._call import Call, Outcome, Policy
from ._databases import settle
from ._insert import complete_updated, explain, update
from ._lookup import (
    NO_OPTIONS,
    Lookup,
    bind,
    has_row,
    refuse_autocommit,
    require_cover,
)
from ._loop import find_or_create, vanished
from ._models import Criterion, T
from ._new_row import (
    Defaults,
    Factory,
    NewRow,
    NewValues,
    all_unknown,
    note_unrelated,
)
from ._plain import NO_START, plain_start
from .exceptions import UnknownFieldError


async def get_or_create(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    /,
    *criteria: Criterion,
    defaults: Defaults | None = None,
    factory: Factory[T] | None = None,
    options: Sequence[ORMOption] = (),
    with_for_update: ForUpdateParameter = None,
    policy: Policy | None = None,
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
        policy: How the call behaves. ``None``: as ``session.info["async_goc.policy"]``
            says, or else :data:`DEFAULT_POLICY`.
        **lookup: Attribute names and the values they must have: columns, synonyms,
            hybrids, composites, and many-to-one relationships. ``None`` means IS
            NULL, and is stored as NULL, whatever default the column has.
            What cannot be set, such as a generated column (``Computed``) or a hybrid
            without a setter, only filters.

    Returns:
        The instance, all of its columns loaded, and whether this call created it.
        On a created one, the collections that nothing can have filled are loaded, too
        (not with a factory, nor if anybody listens to the INSERT; and what a trigger
        adds to them is not seen).

    Raises:
        UnknownFieldError: Names are no attributes of the model, or cannot be set; it
            names them all.
        ContradictionError: A default contradicts the lookup.
        MissingConstraintError: No unique constraint covers the lookup, and the
            policy asks for one.
        SnapshotConflictError: A rival's row is beyond this transaction's snapshot
            (PostgreSQL and MariaDB 11.6, from REPEATABLE READ on).
        ContentionError: The policy's attempts are used up.
        RivalTimeoutError: The policy's ``lock_timeout`` is over.
        IsolationError: The policy's ``advisory_lock`` is of no use at this level.
        ValueError: There is no lookup, or it cannot identify a row; or the session is
            in AUTOCOMMIT (any database but SQLite).
        TypeError: An argument is of the wrong type.
        sqlalchemy.exc.MultipleResultsFound: Several rows match.
        sqlalchemy.exc.InvalidRequestError: A call in another task uses the session, or
            the session is sharded.
        sqlalchemy.exc.IntegrityError: The new row violates a constraint, and not by
            a lost race; unchanged, with a note.
        sqlalchemy.exc.DBAPIError: Any other database error, unchanged.
    """
    plan, look, turn, looked = NO_START
    is_plain = not criteria and factory is None and with_for_update is None
    try:
        if is_plain and options is NO_OPTIONS and isinstance(session, AsyncSession):
            start = plain_start(session, model, lookup, defaults, policy)
            plan, look, turn, looked = start
            if look is not None:
                found = await greenlet_spawn(look, session.sync_session, plan, lookup)
                if found is not None:
                    return found, False
        with Call("get_or_create", session, model, policy) as call:
            call.claim_session()
            try:
                if plan is None:
                    how: Any = {"options": options, "lock": with_for_update}
                    how["lock_timeout"] = call.policy.lock_timeout
                    wanted = bind(call.session, model, criteria, lookup, **how)
                else:
                    wanted = Lookup(plan, lookup, call.policy.lock_timeout)
                # What is illegal is refused before any SQL; the rest is made on a miss.
                is_plain = defaults is None and factory is None
                new_row = None if is_plain else NewRow(wanted, defaults, factory)
            except UnknownFieldError as error:
                raise all_unknown(error, factory, defaults) from None
            require_cover(call, wanted)
            note_unrelated(wanted.plan, defaults)
            how = {"early": turn, "looked": looked}
            return await find_or_create(call, wanted, new_row, **how)
    except BaseException as error:
        if turn is not None:
            turn.give_up(error)
        raise


async def update_or_create(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    /,
    *criteria: Criterion,
    defaults: Defaults | None = None,
    create_defaults: Defaults | None = None,
    factory: Factory[T] | None = None,
    options: Sequence[ORMOption] = (),
    policy: Policy | None = None,
    **lookup: Any,
) -> tuple[T, bool]:
    """Change the row that matches the lookup, or create it if there is none.

    The row is locked (FOR UPDATE, where the database has it) and read anew, whatever
    the session has loaded, so that nobody's change is lost: not before this call, and
    not until the transaction ends. What holds for :func:`get_or_create` holds here.

    An update is one SELECT (one more, if the session had loaded the row), and inside a
    SAVEPOINT one UPDATE, of those columns that differ, and those with an ``onupdate``.
    If none differs, there is no UPDATE.

    Args:
        session: The session whose transaction the change becomes part of.
        model: The mapped class.
        *criteria: SQL expressions, as for :func:`get_or_create`.
        defaults: The row's new values, as for :func:`get_or_create`: attributes only.
            They may be SQL expressions over the row (``Page.views + 1``), and may
            change what is looked up. Evaluated once, whatever becomes of the race.
        create_defaults: Values for a new row, in place of *defaults*; ``{}``: none.
        factory: Makes a new instance, as for :func:`get_or_create`.
        options: Loader options, as for :func:`get_or_create`.
        policy: How the call behaves. ``None``: as ``session.info["async_goc.policy"]``
            says, or else :data:`DEFAULT_POLICY`.
        **lookup: Attribute names and values, as for :func:`get_or_create`.

    Returns:
        The instance, all of its columns loaded, and whether this call created it.

    Raises:
        UnknownFieldError: Names are no attributes of the model, or cannot be set; it
            names them all.
        sqlalchemy.exc.IntegrityError: The row violates a constraint, and not by a lost
            race; unchanged, with a note. An update is undone, and nothing else.
        Exception: All else that :func:`get_or_create` raises. (A value that
            contradicts the lookup changes what it names.)
    """
    with Call("update_or_create", session, model, policy) as call:
        call.claim_session()
        how: Any = {"options": options, "is_updating": True}
        how["lock_timeout"] = call.policy.lock_timeout
        try:
            wanted = bind(call.session, model, criteria, lookup, **how)
            new_row = NewRow(
                wanted,
                defaults if create_defaults is None else create_defaults,
                factory,
                takes_arguments=create_defaults is not None,
                may_contradict=True,
            )
            changes = new_row.new_values
            if create_defaults is not None:
                changes = NewValues(wanted, defaults, may_contradict=True)
        except UnknownFieldError as error:
            raise all_unknown(error, factory, create_defaults, defaults) from None
        require_cover(call, wanted)
        mapper, own = wanted.plan.mapper, call.session.sync_session
        call.use_writer(mapper)
        refuse_autocommit(own, own.get_bind(mapper))
        # SQLite locks the file instead of a row, and has to before the row is read.
        await settle(call.session, mapper)
        for _ in range(call.policy.attempts):
            instance, created = await find_or_create(call, wanted, new_row)
            if created or await _change(call, wanted, instance, changes):
                return instance, created
        raise vanished(call, wanted)


async def _change(
    call: Call, lookup: Lookup[Any], instance: object, changes: NewValues
) -> bool:
    """Change the row; return whether it is still there."""
    values = await changes.values()
    await settle(call.session, lookup.plan.mapper)
    # No rival can delete a locked row, but what makes the values can.
    state: Any = inspect(instance)
    if not state.persistent:
        return False
    try:
        await update(call, lookup, instance, values)
    except StaleDataError:
        # Deleted by SQL that the session knows nothing of. (A trigger that skips the
        # UPDATE looks the same, and is the caller's.)
        if await call.session.run_sync(has_row, instance):
            raise
        return False
    except DBAPIError as error:
        explain(lookup, error, "updating", undone="this statement")
        raise
    await complete_updated(call.session, instance)
    if call.outcome is not Outcome.LOST_RACE:
        call.outcome = Outcome.UPDATED
    return True
