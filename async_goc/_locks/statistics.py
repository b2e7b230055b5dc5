"""Count what happens to keys, and report it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LockStatistics:
    """What a registry holds at the moment, and what has happened in it so far.

    Attributes:
        held: Keys that are held.
        waiting: Calls that wait for a key.
        acquired: Keys given to calls.
        waited: Waits that have begun.
        collapsed: Calls that found the row after waiting: INSERTs that were spared.
        timeouts: Waits that ``wait_timeout`` has ended.
        deadlocks_avoided: Waits that would have closed a cycle, or were part of one, or
            may have been.
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


@dataclass(slots=True)
class Counts:
    """What has happened so far, in all event loops; see :class:`LockStatistics`."""

    acquired: int = 0
    waited: int = 0
    collapsed: int = 0
    timeouts: int = 0
    deadlocks_avoided: int = 0
    reclaimed: int = 0
