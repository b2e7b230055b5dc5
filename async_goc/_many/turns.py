"""Stand in the queues for many rows: in one order, and all in one turn."""

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any, Self

from sqlalchemy.ext.asyncio import AsyncSession

from .._call import Call, Policy, note_owner
from .._databases import schemas_of
from .._locks import Answer, Queues
from .._models import T
from .._turns import Key, keys_of, owner_of, wait
from .rows import Row, Shape


class Turns:
    """The turns of one call: a context, at whose end keys are released, or kept.

    Args:
        session: The session.
        policy: Which registry, how long to wait, and how long to hold.
        call: Where to report how long it waited.
    """

    def __init__(self, session: AsyncSession, policy: Policy, call: Call) -> None:
        self._session = session.sync_session
        self._policy = policy
        self._call = call
        self._queues = None if policy.locks is None else policy.locks.queues()
        # What this call has taken, and whether the row is there by now.
        self._taken: dict[Key, bool] = {}
        # What it goes on without: the wait was too long, or would never have ended.
        self._without: set[Key] = set()
        self._looked = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._queues is None or not self._taken:
            return
        owner = owner_of(self._session, self._queues)
        for key, is_found in self._taken.items():
            answer = Answer.FOUND if is_found else Answer.GRANTED
            if kind is GeneratorExit:
                # From the garbage collector: at any time, in any thread.
                self._queues.run_soon(owner.leave, key, answer, self._policy.hold)
            else:
                owner.leave(key, answer, self._policy.hold)

    def assign(self, rows: Sequence[Row[Any]], shape: Shape) -> None:
        """Give each row the key that it queues for, if it has one."""
        if self._queues is None:
            return
        bind = self._session.get_bind(shape.mapper)
        schemas = schemas_of(self._session, bind)
        values = [row.values for row in rows]
        for lookup, places in shape.alike(values):
            alike = [values[place] for place in places]
            keys = keys_of(lookup, alike, bind, schemas, self._policy.namespace)
            for place, key in zip(places, keys, strict=True):
                rows[place].turn = key

    def looking(self) -> None:
        """Note that a look begins: it may miss the rows of keys released since."""
        self._looked = perf_counter()

    async def queue(self, rows: Sequence[Row[T]]) -> list[Row[T]]:
        """Queue for each in turn; return those to look for again.

        The others' keys are held by now, or this call goes on without them.
        """
        if self._queues is None:
            return []
        queues, owner = self._queues, owner_of(self._session, self._queues)
        again: list[Row[T]] = []
        for row in rows:
            key = row.turn
            if key is None or key in self._without or key in owner.keys:
                continue
            has_changed = queues.memory.has_changed(key, self._looked)
            if not has_changed:
                queues.memory.forget(key)
            if queues.take(key, owner):
                self._taken[key] = False
            else:
                has_changed = True
                note_owner(owner)
                await self._wait(key, queues)
            if has_changed:
                again.append(row)
        note_owner(owner)
        return again

    async def _wait(self, key: Key, queues: Queues) -> None:
        owner = owner_of(self._session, queues)
        answer = await wait(key, queues, owner, self._policy, self._call)
        if answer is Answer.GRANTED:
            self._taken[key] = False
        elif answer in {Answer.TIMEOUT, Answer.DEADLOCK}:
            self._without.add(key)
        else:
            queues.counts.collapsed += 1

    def found(self, rows: Iterable[Row[Any]]) -> None:
        """The rows are there, and somebody else's."""
        for row in rows:
            if row.turn is not None and row.turn in self._taken:
                self._taken[row.turn] = True

    def created(self, rows: Iterable[Row[Any]]) -> None:
        """The rows are there, for others as soon as the transaction commits."""
        if self._queues is None:
            return
        # The defaults may have ended the transaction in which the call began.
        owner = owner_of(self._session, self._queues)
        keys = [row.turn for row in rows if row.turn is not None]
        for key in keys:
            if key not in owner.keys and self._queues.take(key, owner):
                # It has gone on without the key, and is the one to wait for now.
                self._taken[key] = False
        if self._policy.hold == "transaction":
            owner.keep(*keys)
