"""Let nothing be committed of a transaction that InnoDB has rolled back."""

from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .connections import connections_of
from .errors import end_of_transaction
from .facts import facts_of

# A deadlock ends the whole transaction in InnoDB, and not only the statement. The next
# statement begins another one, and its COMMIT succeeds, with all that was written
# before missing. So the connection is given up: it raises until the session is rolled
# back.

_NOTE: Final = (
    "the whole transaction is gone: the database has rolled back all that it had "
    "written. Roll the session back, and run all of its work again, as "
    "run_in_transaction() does"
)


def give_up(session: Session, error: BaseException) -> None:
    """Make the session's COMMIT fail, if *error* says that there is nothing left."""
    cause = error if isinstance(error, DBAPIError) else error.__cause__
    if not isinstance(cause, DBAPIError) or end_of_transaction(cause) is None:
        return
    lost = [
        connection
        for connection in connections_of(session)
        if facts_of(connection.dialect).has_locking_reads and not connection.invalidated
    ]
    for connection in lost:
        connection.invalidate(cause)
    if lost:
        error.add_note(_NOTE)
