"""Know which transactions are inside which, where sessions share a connection."""

from collections.abc import Sequence
from itertools import dropwhile
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, SessionTransaction

# Each transaction of such a session is a SAVEPOINT, and so inside all that have begun
# before it and have not ended. When one of these ends first, the database forgets the
# SAVEPOINTs in it, and a session whose own is gone gets an error that names nothing but
# its number.


class Nesting:
    """The transactions that sessions have open on one connection."""

    def __init__(self) -> None:
        # In the order in which they have begun.
        self._open: list[SessionTransaction] = []
        # Those that another session's took with it.
        self._lost = WeakSet[SessionTransaction]()

    def sessions(self) -> Sequence[Session]:
        """Return the sessions with open transactions, in the order of beginning."""
        return list(dict.fromkeys(each.session for each in self._open))

    def begin(self, transaction: SessionTransaction) -> None:
        """Note that it has begun, inside of all that are open."""
        self._open.append(transaction)

    def end(self, session: Session, transaction: SessionTransaction) -> None:
        """Note that it has ended, and with it what others have inside of it."""
        self._lost.update(self._others_inside(session, transaction))
        self._open = [each for each in self._open if each is not transaction]

    def check(self, session: Session) -> None:
        """Refuse to commit what is not innermost."""
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction in self._lost or self._others_inside(session, transaction):
            msg = (
                "another session of rolled_back() has begun later, and has not ended "
                "first, but they share a connection; use one session after the other, "
                "or one inside another, and for what runs at the same time, sessions "
                "of the engine"
            )
            raise InvalidRequestError(msg)

    def _others_inside(
        self, session: Session, transaction: SessionTransaction | None
    ) -> Sequence[SessionTransaction]:
        later = dropwhile(lambda each: each is not transaction, self._open)
        return [each for each in later if each.session is not session]


class JoiningSession(Session):
    """A session that joins a transaction."""

    def __init__(self, nesting: Nesting, **options: Any) -> None:
        super().__init__(**options)
        self.nesting = nesting


@event.listens_for(JoiningSession, "after_begin")
def _begin(
    session: JoiningSession, transaction: SessionTransaction, _: Connection
) -> None:
    session.nesting.begin(transaction)


@event.listens_for(JoiningSession, "before_commit")
def _check(session: JoiningSession) -> None:
    session.nesting.check(session)


@event.listens_for(JoiningSession, "after_transaction_end")
def _end(session: JoiningSession, transaction: SessionTransaction) -> None:
    session.nesting.end(session, transaction)
