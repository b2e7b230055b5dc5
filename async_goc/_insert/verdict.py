"""Decide what a missing or a violated constraint means for a lookup."""

from typing import Any, Final, Literal, NoReturn

from sqlalchemy.exc import DBAPIError, IntegrityError

from .._call import Call
from .._databases import (
    Failure,
    is_beyond_snapshot,
    is_changed_since_snapshot,
    is_duplicate_key,
    is_serialization_failure,
    violation,
)
from .._lookup import Lookup
from .._models import T
from ..exceptions import SnapshotConflictError
from .held import held_key, refuse_contradiction

# A foreign key, a trigger, or what else has been read may fail in the same way.
_OR_ANOTHER: Final = (
    "the database does not say which row that is; it may also be one that the new row "
    "refers to, or that a trigger changes"
)

# After a lost race, the lookup usually finds the rival's row. If it finds none, one of
# six things has happened:
#
#  1. The rival's row has vanished, by a rollback or a DELETE. The next attempt may
#     succeed.
#  2. The row was committed after this transaction's snapshot. No attempt can succeed.
#  3. The row is visible in the table, and the lookup does not find it, because it asks
#     for more than the key, for a subclass, or through filters that the session adds to
#     every query. This is the caller's error.
#  4. The conflict was one of another constraint: the caller's error, too.
#  5. The new row's own values are not what the lookup asks for: that contradicts.
#  6. The row is there, and nobody can see it by its key: row level security hides it,
#     or a trigger has stored other values than it was given.
#
# It is tempting to tell them apart by the shape of the lookup: where it fixes all
# columns of a unique constraint, a row that is in the way and not found must have
# vanished. But a condition beyond the key may hide a row that is there (3). And the
# constraint that was violated may belong to a table that a trigger fills, to a child
# that the same flush inserts, or to a value that a validator has changed (4). Each
# further attempt would fail in the same way, and the ContentionError at the end would
# blame a rival.
#
# So the driver says which constraint was violated, and the table is asked for that key
# alone. If a row has it, and still has it after one more lookup, the error is the
# caller's. If none has, the row lies beyond the snapshot, which the database can tell,
# or it has vanished or is hidden (6). These two look alike: only another INSERT tells
# them apart, and that is the next attempt. So the ContentionError at the
# end of all attempts says both.
#
# SQLite does not name the constraint, and need not: it has one writer, which is this
# transaction, and so no rival's row can have vanished.


async def find_rival(call: Call, lookup: Lookup[T], failure: Failure) -> T | None:
    """Return the row that made our INSERT fail; ``None`` if it has vanished again."""
    # Raises a SnapshotConflictError if the row cannot be seen, and the failure's own
    # error, with a note, if that is not about a rival.
    session, error = call.session, failure.error
    is_known = failure.is_undone and (error is None or is_duplicate_key(error))
    found = await lookup.look_for_rival(session) if is_known else None
    if found is not None or error is None:
        return found
    # (Another statement would be a factory's.)
    if _is_of_snapshot(error) and str(error.statement).startswith("INSERT"):
        raise _beyond_snapshot(lookup, error) from error
    if is_known:
        arguments = {"mapper": lookup.plan.mapper}
        connection = await session.connection(bind_arguments=arguments)
        held = await held_key(connection, lookup, error)
        if held is not None:
            await refuse_contradiction(held, failure.loser, error)
            if held.is_named and held.is_of(failure.loser):
                holder = await held.holder()
                if holder is not None:
                    # Another rival may have come between the lookup and the question.
                    found = await lookup.look(session)
                    if found is not None:
                        return found
                # And it may have gone again: only a row that stays is not a rival's.
                if holder is None or holder != await held.holder():
                    limit = lookup.lock_timeout
                    if await is_beyond_snapshot(connection, error, limit):
                        raise _beyond_snapshot(lookup, error) from error
                    return None
    undone = "this statement" if failure.is_undone else None
    explain(lookup, error, "creating", undone=undone)
    raise error


def _beyond_snapshot(lookup: Lookup[Any], error: DBAPIError) -> SnapshotConflictError:
    constraint = violation(error).constraint
    conflict = SnapshotConflictError(lookup.plan.model, lookup.names, constraint)
    if constraint is not None:
        conflict.add_note(f"the rival's row is in the way by {constraint}")
    else:
        conflict.add_note(_OR_ANOTHER)
    return conflict


def _is_of_snapshot(error: DBAPIError) -> bool:
    """Whether what an INSERT has met is newer than the snapshot, for all we know."""
    # PostgreSQL under SERIALIZABLE, or where a conflict was to be skipped; MariaDB if
    # the primary key is in the way.
    return is_serialization_failure(error) or is_changed_since_snapshot(error)


def refuse_many(lookup: Lookup[Any], error: DBAPIError) -> NoReturn:
    """Raise what it means that an INSERT of many rows has failed."""
    # A unique conflict is skipped, or taken for a lost race before, so an error that
    # comes here is never about a rival's visible row.
    if _is_of_snapshot(error):
        raise _beyond_snapshot(lookup, error) from error
    explain(lookup, error, "creating", undone="this call")
    raise error


def explain(
    lookup: Lookup[Any],
    error: DBAPIError,
    doing: Literal["creating", "updating"],
    *,
    undone: str | None,
) -> None:
    """Add what we know to a database error that reaches the caller."""
    if not isinstance(error, IntegrityError):
        return
    why = "give the row other values"
    # (After a native INSERT, the lookup is not asked again.)
    if is_duplicate_key(error) and undone is not None:
        why = (
            "another row holds these values, and the lookup does not find it. Give the "
            "row others, or look up by that constraint's columns"
        )
    then = (
        f"Only {undone} has been undone by that"
        if undone
        else "Roll the transaction back: the strategy 'native' has no SAVEPOINT"
    )
    error.add_note(
        f"{doing} the {lookup.plan.model.__name__} looked up by "
        f"{', '.join(lookup.names)} violated {violation(error).label}; {why}. "
        f"{then}"
    )
