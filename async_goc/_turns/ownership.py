"""Tie keys to the transaction that holds them, whichever way it ends.

The owner is the session's root transaction: not the task (SQLAlchemy closes sessions in
another one), nor the session (it outlives its transactions). A transaction may end

* as it should: ``after_commit`` fires as soon as others can see its rows, otherwise
  ``after_transaction_end``; both fire for savepoints, too. (``after_soft_rollback``
  comes too late: after the end; and ``close()`` rolls back without it.)
* without a word, when ``close()`` meets a dead connection or is cancelled: the session
  then has another transaction, or none, which whoever waits for the key finds out;
* by being dropped with its session: the garbage collector tells.
"""

from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary, ref

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from .._call import Hold
from .._databases import connections_of, facts_of, is_in_file
from .._locks import Answer, Owner, Queues
from .key import Key

_KEY: Final = "async_goc.owners"
_IN_FILE: Final = 2


class TransactionOwner(Owner):
    """A session's root transaction; before it has begun, the session in its place.

    It refers to neither strongly, so that dropped ones are collected.
    """

    __slots__ = (
        "_in_savepoints",
        "_kept",
        "_queues",
        "_root",
        "_session",
    )

    def __init__(self, session: Session, queues: Queues) -> None:
        super().__init__()
        self._session = ref(session)
        self._queues = queues
        # Known as soon as a key is kept; until then, a call is running that releases.
        self._root: ref[SessionTransaction] | None = None
        # In the order in which they were kept.
        self._kept: dict[Key, None] = {}
        # Those of them that go with a savepoint, by savepoint: each call ends one.
        self._in_savepoints: WeakKeyDictionary[SessionTransaction, dict[Key, None]] = (
            WeakKeyDictionary()
        )

    def is_alive(self) -> bool:
        """Whether the transaction goes on, or has not begun."""
        session = self._session()
        root = None if session is None else session.get_transaction()
        if self._root is None:
            return session is not None
        return root is not None and root is self._root()

    def rank(self) -> int:
        """See :func:`rank_of`."""
        session = self._session()
        return 0 if session is None else rank_of(session)

    @property
    def has_kept_any(self) -> bool:
        """Whether any key stays with the transaction."""
        return bool(self._kept)

    def leave(self, key: Key, answer: Answer, hold: Hold) -> None:
        """A call that has taken *key* ends: release it, unless it is kept."""
        if key in self._kept:
            return
        if key.table is None:
            # In a transaction on an SQLite file nobody else can write, until it ends.
            if hold == "transaction" and self.rank() == _IN_FILE and self.keep(key):
                return
            answer = Answer.GRANTED
        self._queues.release(key, self, answer)

    def keep(self, *keys: Key) -> bool:
        """Hold *keys* until the transaction ends, or the innermost savepoint fails.

        Returns:
            Whether all are: somebody may have taken one over, or the transaction ended.
        """
        session = self._session()
        root = None if session is None else session.get_transaction()
        held = [key for key in keys if key in self.keys] if self.is_alive() else []
        if session is None or root is None or not held:
            return False
        if self._root is None:
            # Called by the garbage collector: at any time, in any thread.
            self._root = ref(
                root, lambda _: self._queues.run_soon(self._queues.reclaim, self)
            )
        nested = session.get_nested_transaction()
        if nested is not None:
            # (A savepoint's rollback does not unlock an SQLite file.)
            new = [k for k in held if k not in self._kept and k.table is not None]
            self._in_savepoints.setdefault(nested, {}).update(dict.fromkeys(new))
        self._kept.update(dict.fromkeys(held))
        return len(held) == len(keys)

    def commit(self, transaction: SessionTransaction) -> None:
        """The transaction has been committed, or the savepoint is being released."""
        if not transaction.nested:
            # Not at its end: a cancellation may strike before, in the pool's ROLLBACK.
            self._end_root(transaction, Answer.CREATED)
            return
        parent = transaction.parent
        keys = self._in_savepoints.pop(transaction, None)
        if keys and parent is not None and parent.nested:
            self._in_savepoints.setdefault(parent, {}).update(keys)

    def end(self, transaction: SessionTransaction) -> None:
        """Release the keys that go with *transaction*."""
        if transaction.nested:
            # It was not released, so it has been rolled back.
            keys = list(self._in_savepoints.pop(transaction, {}))
            for key in keys:
                del self._kept[key]
            self._release(keys, Answer.GRANTED)
        self._end_root(transaction, Answer.GRANTED)

    def _end_root(self, transaction: SessionTransaction, answer: Answer) -> None:
        if self._root is None or transaction is not self._root():
            return
        # Without the callback, which would wake the loop up for nothing.
        self._root = ref(transaction)
        self._in_savepoints.clear()
        keys = list(self._kept)
        self._kept.clear()
        self._release(keys, answer)

    def _release(self, keys: Sequence[Key], answer: Answer) -> None:
        if keys:
            self._queues.run(self._release_here, keys, answer)

    def _release_here(self, keys: Sequence[Key], answer: Answer) -> None:
        for key in keys:
            # Of a whole database, nothing can be said to be there.
            said = answer if key.table is not None else Answer.GRANTED
            self._queues.release(key, self, said)


def owner_of(session: Session, queues: Queues) -> TransactionOwner:
    """Return who holds the keys of the session's present transaction."""
    owners: dict[Queues, TransactionOwner] = session.info.setdefault(_KEY, {})
    owner = owners.get(queues)
    if owner is None or not owner.is_alive():
        if owner is not None:
            queues.reclaim(owner)  # Its transaction ended without a word.
        owner = owners[queues] = TransactionOwner(session, queues)
    return owner


def holds_connection(session: Session) -> bool:
    """Whether it holds what others may be waiting for."""
    return bool(connections_of(session))


def rank_of(session: Session) -> int:
    """Return how much the session holds that others may be waiting for.

    0: nothing; 1: a connection; 2: on SQLite, a transaction in the file, too.
    """
    rank = 0
    for connection in connections_of(session):
        rank = 1
        if facts_of(connection.dialect).has_one_writer and is_in_file(connection):
            return _IN_FILE
    return rank


# For all sessions of the process: a listener for each session costs more than all the
# rest of the registry (60 us). Those that hold no keys are left alone.


@event.listens_for(Session, "after_commit")
def _on_commit(session: Session) -> None:
    for owner in session.info.get(_KEY, {}).values():
        if owner.has_kept_any:
            owner.commit(session.get_nested_transaction() or session.get_transaction())


@event.listens_for(Session, "after_transaction_end")
def _on_end(session: Session, transaction: SessionTransaction) -> None:
    for owner in session.info.get(_KEY, {}).values():
        if owner.has_kept_any:
            owner.end(transaction)
