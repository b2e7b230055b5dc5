"""Hold the process's queues, one set for each event loop, under one public name."""

import asyncio
from dataclasses import asdict, dataclass
from threading import Lock
from weakref import WeakKeyDictionary

from .queues import Counts, Queues


@dataclass(frozen=True, slots=True, kw_only=True)
class LockStatistics:
    """What a registry holds at the moment, and has done so far.

    Attributes:
        held: Keys that are held.
        waiting: Calls that wait for one.
        acquired: Keys given to calls.
        waited: Calls that had to wait.
        collapsed: Calls that found the row after waiting: INSERTs spared.
        timeouts: Waits that ``wait_timeout`` has ended.
        deadlocks_avoided: Waits that would have closed a cycle, or were part of one.
        reclaimed: Keys taken back from transactions that had ended unnoticed.
    """

    held: int
    waiting: int
    acquired: int
    waited: int
    collapsed: int
    timeouts: int
    deadlocks_avoided: int
    reclaimed: int


class KeyedLocks:
    """The registry in which calls of one process queue for the same missing row.

    It belongs to no event loop: each loop that uses it gets queues of its own. A
    process usually needs but one, the default policy's.

    Args:
        known_keys: How many keys each event loop remembers that existed when they were
            last released. A session without a connection need not queue for them.

    Raises:
        ValueError: ``known_keys`` is negative.
    """

    def __init__(self, known_keys: int = 10_000) -> None:
        if known_keys < 0:
            msg = f"known_keys is {known_keys}; give 0 (remember none) or more"
            raise ValueError(msg)
        self._known_keys = known_keys
        # Shared by all loops. Two threads may lose an increment: these are figures
        # to look at, nothing depends on them.
        self._counts = Counts()
        # Written under the guard, by whichever thread meets a new loop.
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, Queues] = (
            WeakKeyDictionary()
        )
        self._guard = Lock()

    def __deepcopy__(self, _: object) -> "KeyedLocks":
        # dataclasses.asdict() of a policy copies it; there is only one.
        return self

    def queues(self) -> Queues:
        """Return the running loop's queues."""
        loop = asyncio.get_running_loop()
        found = self._queues.get(loop)
        if found is None:
            found = Queues(loop, self._known_keys, self._counts)
            with self._guard:
                # Closed in the middle of a wait, a loop would be kept by its future.
                for other in [one for one in self._queues if one.is_closed()]:
                    del self._queues[other]
                self._queues[loop] = found
        return found

    def statistics(self) -> LockStatistics:
        """Return the figures of all event loops together."""
        with self._guard:
            queues = [q for q in self._queues.values() if not q.is_closed()]
        return LockStatistics(
            held=sum(q.held for q in queues),
            waiting=sum(q.waiting for q in queues),
            **asdict(self._counts),
        )
