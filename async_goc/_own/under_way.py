"""Know what a creator has under way in each event loop, and wait for its end."""

import asyncio
from collections.abc import Hashable
from threading import Lock
from typing import Any, Final
from weakref import WeakKeyDictionary

from .._call import Policy, check_loop
from .._locks import HomeLoop
from .batch import Batch, Queue
from .direct import Kind
from .flights import Flight

# Beyond so many queues, those that nothing is in are dropped.
_MOST_QUEUES: Final = 200


class UnderWay:
    """What a creator has under way in one event loop."""

    def __init__(self, batch: Batch | None, loop: asyncio.AbstractEventLoop) -> None:
        self._batch = batch
        self.home = HomeLoop(loop)
        # The lookups that equal calls share.
        self.flights = dict[Hashable, Flight]()
        # By the kind of calls, and by how long a batch may wait for a rival.
        self._queues: dict[tuple[Kind[Any], float | None], Queue] = {}
        self.calls = 0
        # Set when no call is under way, if anything waits for that.
        self._is_idle: asyncio.Event | None = None

    def enter(self) -> None:
        """Note that a call has begun."""
        self.calls += 1

    def leave(self) -> None:
        """Note that a call has ended."""
        self.calls -= 1
        if not self.calls and self._is_idle is not None:
            self._is_idle.set()

    async def wait(self) -> None:
        """Wait until no call is under way, nor a batch whose calls were cancelled."""
        while self.calls:
            for queue in self._queues.values():
                queue.hurry()
            self._is_idle = self._is_idle or asyncio.Event()
            await self._is_idle.wait()
        self._is_idle = None
        for queue in list(self._queues.values()):
            await queue.wait()

    def queue_for(self, kind: Kind[Any] | None, policy: Policy) -> Queue | None:
        """Return the queue for the next batch, if there are batches."""
        # What tells tenants apart on one engine is the caller's context, and a batch
        # has none.
        if self._batch is None or kind is None or policy.namespace is not None:
            return None
        key = kind, _limit(policy)
        queue = self._queues.get(key)
        if queue is None:
            # Clients may decide by which names to look up, and so how many there are.
            if len(self._queues) >= _MOST_QUEUES:
                self._queues = {k: q for k, q in self._queues.items() if q.is_used()}
            queue = self._queues[key] = Queue(kind, self._batch, key[1])
        return queue

    def counts(self) -> tuple[int, int]:
        """Return how many calls are under way, and how many of them are queued."""
        return self.calls, sum(map(len, self._queues.values()))


def _limit(policy: Policy) -> float | None:
    """Return for how many seconds a batch may wait for a rival."""
    limit = policy.lock_timeout
    if limit is None or policy.wait_timeout is None:
        return policy.wait_timeout if limit is None else limit
    return min(limit, policy.wait_timeout)


class Loops:
    """What a creator has under way in all event loops."""

    def __init__(self, batch: Batch | None) -> None:
        self._batch = batch
        self._guard = Lock()
        self._known: WeakKeyDictionary[asyncio.AbstractEventLoop, UnderWay]
        self._known = WeakKeyDictionary()
        self._last: UnderWay | None = None

    def here(self) -> UnderWay:
        """Return what is under way in the running event loop."""
        last = self._last
        if last is not None and last.home.is_running():
            return last  # Most creators serve one loop.
        check_loop()
        loop = asyncio.get_running_loop()
        found = self._known.get(loop)
        if found is None:
            with self._guard:  # Threads have loops of their own.
                # A queue that has waited refers to its loop, which would stay for ever.
                for other in [each for each in self._known if each.is_closed()]:
                    del self._known[other]
                found = self._known[loop] = UnderWay(self._batch, loop)
        self._last = found
        return found

    def counts(self) -> tuple[int, int]:
        """Return how many calls are under way, and how many of them are queued."""
        counts = [under_way.counts() for under_way in list(self._known.values())]
        return sum(calls for calls, _ in counts), sum(queued for _, queued in counts)
