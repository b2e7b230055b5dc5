"""Stand in the queue for one call: in good time, for long enough, and no longer."""

from logging import getLogger
from time import perf_counter
from typing import Any, Final, Self

from sqlalchemy.ext.asyncio import AsyncSession

from .._call import Call, Outcome, Policy, note_owner, owners_around
from .._locks import Answer, Queues
from .._lookup import Lookup
from .key import Key, key_of
from .ownership import TransactionOwner, holds_connection, owner_of, schemas_of

_log: Final = getLogger("async_goc")


class Turn:
    """One call's turn: a context, at whose end the key is released unless it is kept.

    Args:
        session: The session.
        lookup: What is looked up.
        policy: Which registry, how long to wait, and how long to hold.
        call: Where to report how long it waited.
    """

    __slots__ = (
        "_answer",
        "_call",
        "_has_key",
        "_is_found",
        "_key",
        "_looked",
        "_lookup",
        "_owner",
        "_policy",
        "_queues",
        "_session",
        "_wants_key",
    )

    _queues: Queues
    _owner: TransactionOwner

    def __init__(
        self, session: AsyncSession, lookup: Lookup[Any], policy: Policy, call: Call
    ) -> None:
        self._session = session.sync_session
        self._lookup = lookup
        self._policy = policy
        self._call = call
        self._key: Key | None = None
        self._wants_key = True
        self._has_key = False  # by itself: not through a call around this one
        self._is_found = False
        self._answer: Answer | None = None
        # The last look began no sooner. It may miss the row of a key released since.
        self._looked = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._key is None or not self._has_key:
            return
        answer = Answer.FOUND if self._is_found else Answer.GRANTED
        arguments = (self._key, answer, self._policy.hold)
        if kind is GeneratorExit:
            # From the garbage collector: at any time, in any thread.
            self._queues.run_soon(self._owner.leave, *arguments)
        else:
            self._owner.leave(*arguments)

    async def reserve(self) -> None:
        """Queue, unless the session has a connection, or the row is known to exist.

        Who waits without a connection leaves it to others. Who has one looks first:
        most rows are there.
        """
        if self._policy.locks is None or holds_connection(self._session):
            return
        key = self._find_key()
        if key is not None and not self._queues.memory.exists(key):
            self._owner = owner_of(self._session, self._queues)
            await self._take(key)

    async def queue(self) -> bool:
        """Queue, after a look that has found nothing; say whether to look again.

        If not, this call has the key, or goes on without.
        """
        key = self._find_key() if self._wants_key else None
        if key is None:
            return False
        self._owner = owner_of(self._session, self._queues)
        if self._queues.holds(self._owner, key):
            return False
        has_changed = self._queues.memory.has_changed(key, self._looked)
        if not has_changed:
            self._queues.memory.forget(key)
        has_waited = await self._take(key)
        return has_changed or has_waited

    def hit(self) -> Outcome:
        """The row was there; say how that is called."""
        self._is_found = True
        if self._key is None or self._key.table is None:
            return Outcome.HIT  # SQLite's key does not say who created what.
        if self._answer in {None, Answer.FOUND}:
            return Outcome.HIT
        self._queues.counts.collapsed += 1
        return Outcome.WAITED_HIT

    def lost(self) -> None:
        """A rival has the row."""
        self._is_found = True

    def created(self) -> None:
        """The row is there, for others as soon as the transaction has committed."""
        if self._key is None:
            return
        # The defaults may have ended the transaction in which the call began.
        self._owner = owner_of(self._session, self._queues)
        if not self._queues.holds(self._owner, self._key):
            # It has gone on without the key, and is the one to wait for now.
            self._has_key = self._queues.take(self._key, self._owner)
        if self._policy.hold == "transaction":
            self._owner.keep(self._key)

    def _find_key(self) -> Key | None:
        """Return the lookup's key, if it has one; then the queues are found, too."""
        locks = self._policy.locks
        if self._key is None and locks is not None:
            bind = self._session.get_bind(self._lookup.plan.mapper)
            schemas = schemas_of(self._session, bind)
            self._key = key_of(self._lookup, bind, schemas, self._policy.namespace)
            self._queues = locks.queues()
        return self._key

    async def _take(self, key: Key) -> bool:
        """Take the key, waiting for it if need be; say whether it waited."""
        has_waited = not self._queues.take(key, self._owner)
        if has_waited:
            self._answer = await self._wait(key)
            self._wants_key = self._answer not in {Answer.TIMEOUT, Answer.DEADLOCK}
        if not has_waited or self._answer is Answer.GRANTED:
            self._has_key = True
            note_owner(self._owner)
        self._looked = perf_counter()
        return has_waited

    async def _wait(self, key: Key) -> Answer:
        waiting = (self._queues, self._owner, self._policy, self._call)
        return await wait(key, *waiting)


async def wait(
    key: Key, queues: Queues, owner: TransactionOwner, policy: Policy, call: Call
) -> Answer:
    """Wait for a key that somebody else holds, as long as the call still may."""
    limit = policy.wait_timeout
    left = None if limit is None else max(0.0, limit - call.waited)
    began = perf_counter()

    def on_timeout(held: float) -> None:
        # Never the values: an expression may have some.
        names = [c if c.isidentifier() else "an expression" for c in key.columns]
        _log.warning(
            "wait_timeout (%g s) is over for the key of %s (%s), which another "
            "transaction of this process has held for %.3g s; asking the database",
            limit,
            call.model.__name__,
            ", ".join(names) or "all rows: SQLite has one writer",
            held,
        )

    try:
        return await queues.wait(
            key, owner, left, around=owners_around(), on_timeout=on_timeout
        )
    finally:
        call.waited += perf_counter() - began
