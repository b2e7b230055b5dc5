"""Know how far a session's transaction had come when something failed."""

from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from .._lookup import is_in_autocommit

_COMMITS: Final = ("commit", "commit_twophase")


# An error out of `session.commit()` may come from a listener, from a flush, from the
# COMMIT on the first or the second connection, or from a listener after it. Only the
# connection's own event tells when a COMMIT is sent, and so whether it may have taken
# effect.
class Commits:
    """What one session has committed, and what it is committing.

    Attributes:
        has_committed: Whether some of the work is committed for certain.
        is_partial: Whether one connection has committed, and another one has failed to.
        is_callers: Whether the caller began the transaction, and only the caller can
            run it again.
    """

    def __init__(self, session: Session) -> None:
        self.has_committed = False
        self.is_partial = False
        bind = session.bind
        self.is_callers = isinstance(bind, Connection) and bind.in_transaction()
        self._watched: list[Connection] = []
        # Where a COMMIT was sent, and no answer has been seen.
        self._sent: list[Connection] = []
        event.listen(session, "after_begin", self._watch)
        event.listen(session, "after_commit", self._note_success)

    @property
    def is_unknown(self) -> bool:
        """Whether a COMMIT may have taken effect, if its error does not deny it."""
        return bool(self._sent)

    def _watch(
        self, session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        if transaction.nested:
            return
        self._sent.clear()
        if is_in_autocommit(session, connection.engine):
            self.has_committed = True
        if connection not in self._watched:
            self._watched.append(connection)
            for name in _COMMITS:
                event.listen(connection, name, self._note_sent)

    def _note_sent(self, connection: Connection, *_: Any) -> None:
        self._sent.append(connection)

    def _note_success(self, _: Session) -> None:
        # The RELEASE of a SAVEPOINT is called a commit, too.
        if self._sent:
            self._sent.clear()
            self.has_committed = True

    def note_answers(self) -> None:
        """Note which COMMITs have succeeded, although ``session.commit()`` has not."""
        # A transaction stays with its connection until it is committed or rolled back.
        open_ = [each for each in self._sent if each.get_transaction() is not None]
        if len(open_) < len(self._sent):
            self.has_committed = True
            self.is_partial = bool(open_)
        self._sent = open_

    def forget(self) -> None:
        """Leave no listener on a connection that may be the caller's."""
        for connection in self._watched:
            for name in _COMMITS:
                event.remove(connection, name, self._note_sent)
