"""Take one call through the queues: in good time, for long enough, and no longer."""

from collections.abc import Iterable, Sequence
from functools import partial
from logging import getLogger
from time import perf_counter
from typing import Any, Final, Self

from .._call import Call, Outcome
from .._databases import connections_of, schemas_of
from .._locks import Answer, Queues
from .._lookup import Lookup
from .key import Key, Values, key_of, keys_of
from .ownership import TransactionOwner, owner_of

_log: Final = getLogger("async_goc")


class Turn:
    """A call's turn to create its 1..n rows.

    A context: at its end, the keys it has taken are released unless they are kept.
    """

    __slots__ = (
        "_answers",
        "_call",
        "_keys",
        "_looked",
        "_lookup",
        "_owner",
        "_queues",
        "_session",
        "_taken",
        "_without",
    )

    _queues: Queues
    _owner: TransactionOwner

    def __init__(self, call: Call, lookup: Lookup[Any] | None = None) -> None:
        self._call = call
        self._session = call.session.sync_session
        self._lookup = lookup
        # The key of *lookup*: made when it is first needed, which for most calls is
        # never, because their row is there.
        self._keys: Sequence[Key] = ()
        # What this call has taken, and whether the row is there by now. What a call
        # around this one holds is not among it.
        self._taken: dict[Key, bool] = {}
        # What it goes on without: the wait was too long, or would never have ended.
        self._without: set[Key] = set()
        # How its waits ended.
        self._answers: dict[Key, Answer] = {}
        # The earliest start of the last look, which may miss the rows of keys that were
        # released later.
        self._looked = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        hold = self._call.policy.hold
        for key, is_there in self._taken.items():
            answer = Answer.FOUND if is_there else Answer.GRANTED
            if kind is GeneratorExit:
                # The garbage collector closes a call at any time, in any thread.
                self._queues.run_soon(self._owner.leave, key, answer, hold)
            else:
                self._owner.leave(key, answer, hold)

    @property
    def keys(self) -> Sequence[Key]:
        """The key of the one row; empty where there is none (yet)."""
        if not self._keys and self._lookup is not None:
            policy, mapper = self._call.policy, self._lookup.plan.mapper
            if policy.locks is not None:
                bind = self._session.get_bind(mapper)
                schemas = schemas_of(self._session, bind)
                key = key_of(self._lookup, bind, schemas, policy.namespace)
                self._keys = () if key is None else (key,)
        return self._keys

    def keys_of(
        self, lookup: Lookup[Any], rows: Sequence[Values]
    ) -> Sequence[Key | None]:
        """Return the keys of *rows*, all of which are like *lookup*."""
        policy = self._call.policy
        if policy.locks is None:
            return [None] * len(rows)
        bind = self._session.get_bind(lookup.plan.mapper)
        schemas = schemas_of(self._session, bind)
        return keys_of(lookup, rows, bind, schemas, policy.namespace)

    async def reserve(self) -> None:
        """Queue, unless the session has a connection, or the row is known to exist.

        A call that waits without a connection leaves it to others. One that has a
        connection looks first, because most rows are there.
        """
        locks = self._call.policy.locks
        if locks is None or connections_of(self._session):
            return
        memory = locks.queues().memory
        keys = [key for key in self.keys if not memory.exists(key)]
        if keys:
            await self._take(keys, None)

    async def queue(self, keys: Sequence[Key | None]) -> Sequence[Key]:
        """Queue for each key in turn; return those whose rows to look for again.

        This call has the others by now, or goes on without them.
        """
        without = self._without
        wanted = [key for key in keys if key is not None and key not in without]
        return await self._take(wanted, self._looked) if wanted else ()

    async def _take(self, keys: Sequence[Key], looked: float | None) -> list[Key]:
        """Take the keys, waiting where need be; return those that may have changed.

        *looked* is when the last look began, ``None`` if there was none.
        """
        queues = self._find_owner()
        memory, owner = queues.memory, self._owner
        again: list[Key] = []
        for key in keys:
            if key in owner.keys:
                continue
            has_changed = looked is not None and memory.has_changed(key, looked)
            if looked is not None and not has_changed:
                memory.forget(key)  # The look would have found it.
            if queues.take(key, owner):
                self._taken[key] = False
            else:
                await self._wait(key)
                has_changed = True
            if has_changed:
                again.append(key)
        self._looked = perf_counter()
        return again

    async def _wait(self, key: Key) -> None:
        call = self._call
        limit = call.policy.wait_timeout
        left = None if limit is None else max(0.0, limit - call.waited)
        began = perf_counter()
        try:
            answer = await self._queues.wait(
                key,
                self._owner,
                left,
                around=call.owners_around(),
                on_timeout=partial(_warn, call, key),
            )
        finally:
            call.waited += perf_counter() - began
        self._answers[key] = answer
        if answer is Answer.GRANTED:
            self._taken[key] = False
        elif answer in {Answer.TIMEOUT, Answer.DEADLOCK}:
            self._without.add(key)

    def hit(self) -> Outcome:
        """The one row was there; say what that is called."""
        is_spared = self.found(self._keys)
        return Outcome.WAITED_HIT if is_spared else Outcome.HIT

    def found(self, keys: Iterable[Key | None]) -> bool:
        """The rows were there; say whether waiting has spared INSERTs."""
        spared = 0
        for key in keys:
            if key is None:
                continue
            if key in self._taken:
                self._taken[key] = True
            # The key of a whole database does not tell which row was created.
            if key.table is not None:
                spared += self._answers.get(key, Answer.FOUND) is not Answer.FOUND
        if spared:
            self._queues.counts.collapsed += spared
        return spared > 0

    def lost(self, keys: Iterable[Key | None]) -> None:
        """Rivals have the rows, and waiting has not spared the INSERTs."""
        self._taken.update(dict.fromkeys(self._taken.keys() & set(keys), True))

    def created(self, keys: Iterable[Key | None]) -> None:
        """The rows are there, for others as soon as the transaction has committed."""
        known = [key for key in keys if key is not None]
        if not known:
            return
        # The defaults may have ended the transaction in which the call began.
        queues = self._find_owner()
        for key in known:
            if key not in self._owner.keys and queues.take(key, self._owner):
                # This call went on without the key, and is the one to wait for now.
                self._taken[key] = False
        if self._call.policy.hold == "transaction":
            self._owner.keep(*known)

    def _find_owner(self) -> Queues:
        """Find whoever holds the session's keys now, and the running loop's queues."""
        locks = self._call.policy.locks
        assert locks is not None  # noqa: S101 - without a registry, there are no keys
        self._queues = locks.queues()
        self._owner = owner_of(self._session, self._queues)
        self._call.note_owner(self._owner)
        return self._queues


def _warn(call: Call, key: Key, held: float) -> None:
    """Say that a wait took too long, without the values, which may be secret."""
    names = [c if c.isidentifier() else "an expression" for c in key.columns]
    _log.warning(
        "wait_timeout (%g s) is over for the key of %s (%s), which another "
        "transaction of this process has held for %.3g s; asking the database",
        call.policy.wait_timeout,
        call.model.__name__,
        ", ".join(names) or "all rows: the database has one writer",
        held,
    )
