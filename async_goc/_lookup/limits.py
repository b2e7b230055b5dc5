"""Let the database wait for rivals only as long as the policy says."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .._databases import facts_of, is_lock_timeout
from .._models import reset_savepoint_count, savepoint_count
from ..exceptions import RivalTimeoutError

if TYPE_CHECKING:
    from .lookup import Lookup


def has_limit(lookup: "Lookup[Any]", session: Session) -> bool:
    """Whether the call limits how long the database waits, and the database can."""
    if lookup.lock_timeout is None:
        return False
    dialect = session.get_bind(lookup.plan.mapper).dialect
    return facts_of(dialect).limited_waits is not None


@contextmanager
def limiting_waits(
    lookup: "Lookup[Any]", session: Session, *, is_guarded: bool = True
) -> Generator[None]:
    """Raise RivalTimeoutError where a statement inside waits for too long.

    Without a guard around it, it has a SAVEPOINT of its own where it needs one.
    """
    if not has_limit(lookup, session):
        yield
        return
    seconds: Any = lookup.lock_timeout
    connect = partial(session.connection, {"mapper": lookup.plan.mapper})
    connection = connect()
    facts: Any = facts_of(connection.dialect)
    is_guarded = is_guarded or facts.error_undoes_statement
    if not is_guarded:
        session.flush()  # An error of the caller's rows is not one of ours.
    # The name is taken when the SAVEPOINT begins.
    count, began = savepoint_count(connection), perf_counter()
    try:
        with (
            nullcontext() if is_guarded else session.begin_nested(),
            # SAVEPOINT is sent only when the session is asked for its connection.
            facts.limited_waits(connect(), seconds),
        ):
            yield
    except DBAPIError as error:
        # One that comes at once is a NOWAIT's, of a trigger or a listener.
        if not is_lock_timeout(error) or perf_counter() - began < seconds / 2:
            raise
        raise RivalTimeoutError(lookup.plan.model, lookup.names, seconds) from error
    finally:
        if not is_guarded:
            reset_savepoint_count(connection, count)
