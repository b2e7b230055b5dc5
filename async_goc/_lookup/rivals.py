"""Read what a rival has written, also where this transaction's snapshot hides it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import ForUpdateParameter

from .._databases import is_changed_since_snapshot, read_hidden
from ..exceptions import SnapshotConflictError
from .arguments import has_nowait
from .limits import limiting_waits

if TYPE_CHECKING:
    from .lookup import Lookup

R = TypeVar("R")


def read_rivals(
    lookup: "Lookup[Any]", session: Session, read: Callable[[ForUpdateParameter], R]
) -> R:
    """Read, by *read* with a lock or without, what was in the way of an INSERT.

    It returns None where it has not found all.
    """

    def limited(lock: ForUpdateParameter) -> R:
        with limiting_lock(lookup, session, lock):
            return read(lock)

    try:
        if lookup.lock is not None:
            return limited(lookup.lock)
        return read_hidden(session.get_bind(lookup.plan.mapper).dialect, limited)
    except DBAPIError as error:
        if is_changed_since_snapshot(error):
            args = lookup.plan.model, lookup.names, None
            raise SnapshotConflictError(*args) from error
        raise


def limiting_lock(
    lookup: "Lookup[Any]", session: Session, lock: ForUpdateParameter
) -> AbstractContextManager[None]:
    """Limit how long a SELECT waits for its lock, unless it is not to wait at all."""
    if lock is None or lookup.lock_timeout is None or has_nowait(lock):
        return nullcontext()
    return limiting_waits(lookup, session, is_guarded=False)
