"""Tie keys to the transaction that holds them, whichever way it ends."""

from collections.abc import Collection, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from .._databases import connections_of
from .._locks import Answer, Queues
from .key import Key
from .session_owner import SessionOwner

_KEY: Final = "async_goc.owners"
# What those who wait are told, by whether the row is there.
_LEFT: Final = {True: Answer.FOUND, False: Answer.GRANTED}
_NO_OWNERS: Final[Mapping[Queues, Any]] = {}
_InSavepoints = WeakKeyDictionary[SessionTransaction, dict[Key, None]]


# The owner of a key is the session's root transaction. It is not the task, because
# SQLAlchemy closes sessions in another one, nor the session, because that outlives its
# transactions. Before the transaction has begun, the session stands in for it. There
# are three ways in which a transaction ends, and only the first is announced:
#
# * It ends properly. ``after_commit`` fires as soon as others can see its rows, and
#   ``after_transaction_end`` in every other case. Keys are released by the first of the
#   two that fires: between COMMIT and the end, the pool sends a ROLLBACK, and a task
#   that is cancelled there never comes to the end. Both events fire for savepoints as
#   well. ``after_soft_rollback`` cannot be used: it fires after the end, and does not
#   fire at all when ``close()`` rolls back.
# * ``close()`` meets a dead connection, or is cancelled itself. No event fires, but the
#   session then has another transaction or none, so that its owner is no longer alive.
#   The queues look for such owners while something waits for a key.
# * The transaction is dropped with its session: the garbage collector tells. So an
#   owner refers to neither of them strongly, which would keep both.
#
# A key that was created inside a savepoint goes with it. ``after_commit`` tells which
# savepoints were released, whose keys go to the savepoint around them; a savepoint that
# ends without it has been rolled back.
#
# The listeners are on the Session class. A listener on each session was measured at 60
# to 90 microseconds for three events, more than all the rest of the registry. Sessions
# that hold no keys return at once.


class TransactionOwner(SessionOwner):
    """A session's root transaction; before it has begun, the session in its place."""

    # Whether a COMMIT is under way, which may wait for a deferred constraint.
    is_committing: bool = False
    # Known as soon as a key is kept. Until then a call is running, which releases.
    _root: ref[SessionTransaction] | None = None
    # Of the keys to hold, those that go with a savepoint, by savepoint, so that the
    # many savepoints of a transaction do not each look through all of its keys.
    _in_savepoints: _InSavepoints | None = None

    def __init__(self, session: Session, queues: Queues) -> None:
        super().__init__(session)
        self._queues = queues
        # The keys to hold until the transaction ends, in the order of keeping.
        self._kept: dict[Key, None] = {}

    def is_alive(self) -> bool:
        """Whether the transaction goes on, or has not begun."""
        if self._root is None:
            return super().is_alive()
        session = self._session()
        root = None if session is None else session.get_transaction()
        return root is not None and root is self._root()

    def is_executing(self) -> bool:
        """Whether a statement of the session is under way, or its COMMIT."""
        return self.is_committing or super().is_executing()

    @property
    def has_kept_any(self) -> bool:
        """Whether any key stays with the transaction."""
        return bool(self._kept)

    def leave(self, keys: Mapping[Key, bool]) -> None:
        """Release what a call has taken, at its end, unless that is kept.

        With each key comes whether its row is there.
        """
        if len(keys) == 1:
            [(key, is_there)] = keys.items()
            if key not in self._kept:
                self._queues.release(key, self, _LEFT[is_there])
            return
        # Between sets and dicts, no key is hashed again.
        rest = set(keys).difference(self._kept)
        for is_there, answer in _LEFT.items() if rest else ():
            left = [k for k, it in keys.items() if it is is_there and k in rest]
            if left:
                self._queues.release_all(left, self, answer)

    def keep(self, keys: Mapping[Key, None]) -> None:
        """Hold *keys* until the transaction ends, or the innermost savepoint fails."""
        # It is alive; and one of them may have been taken over by another owner.
        session = self._session()
        root = None if session is None else session.get_transaction()
        lost = set(keys).difference(self.keys)
        held = dict.fromkeys(k for k in keys if k not in lost) if lost else keys
        if session is None or root is None or not held:
            return
        if self._root is None:
            # The garbage collector calls this at any time, in any thread.
            self._root = ref(
                root, lambda _: self._queues.home.run_soon(self._queues.reclaim, self)
            )
        nested = session.get_nested_transaction()
        if nested is not None:
            kept = self._kept
            new = dict.fromkeys(k for k in held if k not in kept) if kept else held
            self._note(nested, new)
        self._kept.update(held)

    def commit(self, transaction: SessionTransaction) -> None:
        """Note that the root was committed, or that a savepoint is being released."""
        if not transaction.nested:
            # Inside of a transaction that goes on, nobody else can see the rows yet,
            # and they may be rolled back with it.
            held = connections_of(transaction.session)
            is_inside = any(map(Connection.in_transaction, held))
            answer = Answer.GRANTED if is_inside else Answer.CREATED
            self._end_root(transaction, answer)
            return
        parent = transaction.parent
        keys = self._forget(transaction)
        if keys and parent is not None and parent.nested:
            self._note(parent, keys)

    def end(self, transaction: SessionTransaction) -> None:
        """Release the keys that go with *transaction*."""
        if transaction.nested:
            # A released savepoint has handed its keys on: this one was rolled back.
            keys = self._forget(transaction)
            for key in keys:
                del self._kept[key]
            self._release(keys, Answer.GRANTED)
        self._end_root(transaction, Answer.GRANTED)

    def _note(self, savepoint: SessionTransaction, keys: Mapping[Key, None]) -> None:
        # Most transactions have no savepoint around a call.
        if self._in_savepoints is None:
            self._in_savepoints = WeakKeyDictionary()
        self._in_savepoints.setdefault(savepoint, {}).update(keys)

    def _forget(self, savepoint: SessionTransaction) -> Mapping[Key, None]:
        noted = self._in_savepoints
        return {} if noted is None else noted.pop(savepoint, {})

    def _end_root(self, transaction: SessionTransaction, answer: Answer) -> None:
        if self._root is None or transaction is not self._root():
            return
        # Without the callback, which would wake the loop up for nothing.
        self._root = ref(transaction)
        self._in_savepoints = None
        keys, self._kept = self._kept, {}
        self._release(keys, answer)

    def _release(self, keys: Collection[Key], answer: Answer) -> None:
        if keys:
            self._queues.home.run(self._queues.release_all, keys, self, answer)


def owner_of(session: Session, queues: Queues) -> TransactionOwner:
    """Return what holds the keys of the session's present transaction."""
    owners: dict[Queues, TransactionOwner] = session.info.setdefault(_KEY, {})
    owner = owners.get(queues)
    if owner is None or not owner.is_alive():
        if owner is not None:
            queues.reclaim(owner)  # Its transaction ended unannounced.
        # Each call of a long session may have a registry of its own.
        if owners:
            idle = [q for q, one in owners.items() if not (one.keys or one.waits)]
            for other in idle:
                del owners[other]
        owner = owners[queues] = TransactionOwner(session, queues)
    return owner


@event.listens_for(Session, "before_commit")
def _before_commit(session: Session) -> None:
    for owner in session.info.get(_KEY, _NO_OWNERS).values():
        owner.is_committing = True


@event.listens_for(Session, "after_commit")
def _on_commit(session: Session) -> None:
    for owner in session.info.get(_KEY, _NO_OWNERS).values():
        owner.is_committing = False
        if owner.has_kept_any:
            # While a savepoint is being released, it still is the innermost one.
            owner.commit(session.get_nested_transaction() or session.get_transaction())


@event.listens_for(Session, "after_transaction_end")
def _on_end(session: Session, transaction: SessionTransaction) -> None:
    for owner in session.info.get(_KEY, _NO_OWNERS).values():
        owner.is_committing = False
        if owner.has_kept_any:
            owner.end(transaction)
