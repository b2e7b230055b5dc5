"""Hold the process's queues, one set for each event loop, under one public name."""

import asyncio
from dataclasses import asdict
from threading import Lock
from weakref import WeakKeyDictionary

from .queues import Queues
from .statistics import Counts, LockStatistics


class KeyedLocks:
    """The registry in which calls of one process queue for the same missing row.

    It belongs to no event loop: each loop that uses it gets queues of its own. A
    process usually needs only one registry, the default policy's.

    Args:
        known_keys: How many keys each event loop remembers after their release. A
            session without a connection need not queue for those whose rows existed.

    Raises:
        ValueError: ``known_keys`` is negative.
    """

    def __init__(self, known_keys: int = 10_000) -> None:
        if known_keys < 0:
            msg = f"known_keys is {known_keys}; give 0 (remember none) or more"
            raise ValueError(msg)
        self._known_keys = known_keys
        # Shared by all loops. Two threads may lose an increment: nothing depends on
        # these figures.
        self._counts = Counts()
        # Written under the guard, by whichever thread meets a new loop.
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, Queues] = (
            WeakKeyDictionary()
        )
        self._guard = Lock()

    def queues(self) -> Queues:
        """Return the running loop's queues."""
        loop = asyncio.get_running_loop()
        found = self._queues.get(loop)
        if found is None:
            found = Queues(loop, self._known_keys, self._counts)
            with self._guard:
                # The future of a waiter refers to its loop. A loop that was closed in
                # the middle of a wait would therefore stay here for ever.
                for other in [one for one in self._queues if one.is_closed()]:
                    del self._queues[other]
                self._queues[loop] = found
        return found

    def statistics(self) -> LockStatistics:
        """Return the figures of all event loops together."""
        queues = self._open_queues()
        return LockStatistics(
            held=sum(q.held for q in queues),
            waiting=sum(q.waiting for q in queues),
            **asdict(self._counts),
        )

    def __repr__(self) -> str:
        queues = self._open_queues()
        held, waiting = sum(q.held for q in queues), sum(q.waiting for q in queues)
        # How many of them are known to exist would have to be counted one by one.
        remembered = sum(len(q.memory) for q in queues)
        return f"<KeyedLocks: {held} held, {waiting} waiting, {remembered} remembered>"

    def __deepcopy__(self, _: object) -> "KeyedLocks":
        # dataclasses.asdict() copies a policy deeply, but a copy of this registry would
        # be another registry, in which nothing queues for the original's keys.
        return self

    def _open_queues(self) -> list[Queues]:
        with self._guard:
            return [q for q in self._queues.values() if not q.home.is_closed()]
