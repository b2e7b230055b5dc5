"""Let nothing be committed of a transaction that InnoDB has rolled back."""

from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .connections import connections_of
from .errors import end_of_transaction, has_ended_by_timeout, is_savepoint_gone
from .facts import facts_of

# A deadlock ends the whole transaction in InnoDB, and not only the statement. The next
# statement begins another one, and its COMMIT succeeds, with all that was written
# before missing. So the connection is given up: it raises until the session is rolled
# back.

_AGAIN: Final = (
    "Roll the session back, and run all of its work again, as run_in_transaction() does"
)
_GONE: Final = (
    "the whole transaction is gone: the database has rolled back all that it had "
    f"written. {_AGAIN}"
)
# A factory may have swallowed the reason, or have sent a COMMIT.
_ENDED: Final = f"the transaction ended while the call was at work. {_AGAIN}"


def give_up(session: Session, error: BaseException) -> None:
    """Make the session's COMMIT fail, if *error* says that there is nothing left."""
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    if isinstance(cause, DBAPIError) and end_of_transaction(cause) is not None:
        _give_up(session, error, _GONE)


def reason_of_end(
    session: Session, error: DBAPIError, first: BaseException | None
) -> BaseException | None:
    """Give up a transaction that has ended inside a SAVEPOINT; return why it did.

    It began with *first*, and then SQLAlchemy's own SAVEPOINT met *error*.
    """
    ended = end_of_transaction(error)
    if ended is not None:
        # That there is no SAVEPOINT any more says nothing.
        cause = ended if isinstance(first, DBAPIError) else first or ended
        _give_up(session, cause, _GONE)
        return cause
    if is_savepoint_gone(error):
        note = _GONE if has_ended_by_timeout(error) else _ENDED
        _give_up(session, error, note)
    return None


def _give_up(session: Session, error: BaseException, note: str) -> None:
    lost = [
        connection
        for connection in connections_of(session)
        if facts_of(connection.dialect).has_locking_reads and not connection.invalidated
    ]
    for connection in lost:
        connection.invalidate(error)
    if lost:
        error.add_note(note)
