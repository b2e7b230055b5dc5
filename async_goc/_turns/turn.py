"""Take one call through the queues: in good time, for long enough, and no longer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from logging import getLogger
from time import perf_counter
from typing import Any, Final, Self

from sqlalchemy.orm import class_mapper

from .._call import Call, Outcome, writer_of
from .._databases import connections_of, schemas_of
from .._locks import Answer, Queues
from .._lookup import Lookup, locks_by_reading, refuse_autocommit
from .advisory import Group, lock_keys
from .early import EarlyTurn
from .key import Key, Where, key_of, keys_of, names_of
from .ownership import TransactionOwner, owner_of

_log: Final = getLogger("async_goc")


class Turn:
    """A call's turn to create its 1..n rows.

    A context: at its end, the keys it has taken are released unless they are kept.
    """

    # Known as soon as the first key is asked for.
    _queues: Queues
    _owner: TransactionOwner
    # Whether the call has looked for its row before it queues for the key.
    has_looked = True
    # The key of the one row, made when first needed. A hit in an open transaction
    # needs none.
    _keys: tuple[Key, ...] = ()

    def __init__(
        self,
        call: Call,
        lookup: Lookup[Any] | None = None,
        early: EarlyTurn | None = None,
        looked: float | None = None,
    ) -> None:
        self._call = call
        # What one row is looked up by. (The keys of many rows are made by keys_of.)
        self._lookup = lookup
        # The earliest start of the last look. It may miss the rows of keys that were
        # released later.
        self._looked = perf_counter() if looked is None else looked
        self._early = early
        # Whether the call has looked by now, or knows that it queues first.
        self._is_decided = early is not None or looked is not None
        if early is not None:
            self._keys, self.has_looked = (early.key,), looked is not None

    def __enter__(self) -> Self:
        # The keys that this call has taken, and whether their rows are there by now.
        # What a call around this one holds is not among them.
        self._taken: dict[Key, bool] = {}
        # How waiting has ended, for each key that this call waited for.
        self._answers: dict[Key, Answer] = {}
        early = self._early
        if early is not None and early.is_held:
            self._queues = queues = early.queues
            queues.hand_over(early.key, early, self._find_owner())
            self._taken[early.key] = False
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if not self._taken:
            return
        if error is None:
            self._owner.leave(self._taken)
        else:
            leave, home = self._owner.leave, self._queues.home
            home.run_after(error, leave, self._taken)

    @property
    def keys(self) -> Sequence[Key]:
        """The key of the one row; empty while it has none."""
        lookup = self._lookup
        if not self._keys and lookup is not None and self._call.policy.locks:
            key = key_of(lookup, self._where(lookup))
            self._keys = () if key is None else (key,)
        return self._keys

    def keys_of(
        self, lookup: Lookup[Any], rows: Sequence[Mapping[str, Any]]
    ) -> Sequence[Key | None]:
        """Return the keys of rows that are looked up as *lookup* is."""
        if self._call.policy.locks is None:
            return [None] * len(rows)
        return keys_of(lookup, rows, self._where(lookup))

    def _where(self, lookup: Lookup[Any]) -> Where:
        session = self._call.session.sync_session
        bind = writer_of(session, lookup.plan.mapper)
        # A call in a session without a connection comes here before any SQL.
        refuse_autocommit(session, bind)
        return bind, schemas_of(session, bind), self._call.policy.namespace

    def looks_first(self) -> bool:
        """Whether the call looks for its row now, before it queues for the key."""
        # A call that waits without a connection leaves it to others. One that has a
        # connection looks first, because most rows are there.
        if self._is_decided:
            return False
        locks = self._call.policy.locks
        if locks is not None and not connections_of(self._call.session.sync_session):
            exists = locks.queues().memory.exists
            self.has_looked = all(map(exists, self.keys))
        return self.has_looked

    async def lock(self, *groups: Group) -> None:
        """Lock the keys of rows in the database, for calls of all processes."""
        # Those of this process have queued before, without a connection.
        lookup, session = self._lookup or groups[0][0], self._call.session
        await session.run_sync(lock_keys, lookup, groups, self._where(lookup))

    async def queue(
        self, keys: Collection[Key], *, has_looked: bool = True
    ) -> Sequence[Key]:
        """Queue for each key in turn; return those whose rows to look for again.

        This call has the others by now, or goes on without them.
        """
        if not keys or self._call.policy.locks is None or self._holds(keys):
            return ()
        queues = self._queues = self._call.policy.locks.queues()
        memory, owner = queues.memory, self._find_owner()
        # (Only a call for one row queues before it has looked.)
        if len(keys) > 1 and self._take_all(keys):
            return ()
        again: list[Key] = []
        for key in keys:
            if key in owner.keys:
                continue
            if self._answers.get(key) is Answer.DEADLOCK:
                continue  # The call goes on without the key.
            has_changed = has_looked and memory.has_changed(key, self._looked)
            if has_looked and not has_changed:
                memory.forget(key)  # The look would have found the row.
            if queues.take(key, owner):
                self._taken[key] = False
            elif not (has_looked and self._locks_by_reading()):
                # (What it waits for might wait for what the look has locked.)
                await self._wait(key)
                has_changed = True
            if has_changed:
                again.append(key)
        self._looked = perf_counter()
        return again

    def _locks_by_reading(self) -> bool:
        """Whether a look locks what it finds, and the gap where it finds nothing."""
        session = self._call.session.sync_session
        bind = writer_of(session, class_mapper(self._call.model))
        return locks_by_reading(session, bind)

    def _holds(self, keys: Collection[Key]) -> bool:
        """Whether it holds all of the keys, which it has queued for before."""
        if not self._taken or not self._owner.is_alive():
            return False
        return self._owner.keys.keys() >= {*keys}

    def _take_all(self, keys: Collection[Key]) -> bool:
        """Take all keys at once, if they are free, and were so during the look."""
        wanted = dict.fromkeys(keys, False)
        memory = self._queues.memory
        if memory.have_changed(wanted, self._looked):
            return False
        if not self._queues.take_all(wanted, self._owner):
            return False
        memory.forget_all(wanted)
        self._taken.update(wanted)
        self._looked = perf_counter()
        return True

    async def _wait(self, key: Key) -> None:
        call, began = self._call, perf_counter()
        try:
            answer = await self._queues.wait(
                key,
                self._owner,
                call.policy.wait_timeout,
                around=call.owners_around(),
                on_timeout=partial(_warn, call, key),
            )
        finally:
            call.waited += perf_counter() - began
        self._answers[key] = answer
        if answer in {Answer.GRANTED, Answer.TIMEOUT}:
            self._taken[key] = False

    def hit(self) -> Outcome:
        """The one row was there; say what that is called."""
        # Most calls have neither taken its key nor waited for it.
        has_queued = self._taken or self._answers
        has_spared = has_queued and self.found(self._keys)
        return Outcome.WAITED_HIT if has_spared else Outcome.HIT

    def found(self, keys: Iterable[Key]) -> bool:
        """The rows were there; say whether waiting has spared INSERTs."""
        spared = 0
        for key in keys:
            if key in self._taken:
                self._taken[key] = True
            spared += self._answers.get(key, Answer.FOUND) is not Answer.FOUND
        if spared:
            self._queues.counts.collapsed += spared
        return spared > 0

    def lost(self, keys: Iterable[Key]) -> None:
        """Rivals have the rows, and waiting has not spared the INSERTs."""
        self._taken.update(dict.fromkeys(self._taken.keys() & set(keys), True))

    def created(self, keys: Iterable[Key]) -> None:
        """The rows are there, for others as soon as the transaction has committed."""
        known = dict.fromkeys(keys)
        if not known:
            return
        # The defaults may have ended the transaction in which the call began.
        owner = self._owner if self._owner.is_alive() else self._find_owner()
        for key in self._queues.not_held(known, owner):
            is_ours = key in owner.keys
            # A call that went on without the key is the one to wait for now.
            if self._queues.take(key, owner) and not is_ours:
                self._taken[key] = False
        if self._call.policy.hold == "transaction":
            owner.keep(known)

    def _find_owner(self) -> TransactionOwner:
        """Find what holds the keys of the session's present transaction."""
        self._owner = owner_of(self._call.session.sync_session, self._queues)
        self._call.note_owner(self._owner)
        return self._owner


def _warn(call: Call, key: Key, held: float) -> None:
    """Say that a wait took too long."""
    _log.warning(
        "wait_timeout (%g s) is over for the key of %s (%s), which another "
        "transaction of this process has held for %.3g s; asking the database",
        call.policy.wait_timeout,
        call.model.__name__,
        names_of(key),
        held,
    )
