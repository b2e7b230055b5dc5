"""Watch the holders that nothing else tells of."""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import Final

from .home import HomeLoop
from .line import Line, Waiter
from .owner import Owner
from .waits import follow

# Seconds between two sweeps.
SWEEP: Final = 0.05
# Seconds that a holder may spend in one statement before it counts as waiting for a
# lock. PostgreSQL looks for deadlocks after one second, too.
STATEMENT: Final = 1.0


# Some transactions end without an event: their connection died, or their close() was
# cancelled. And a cycle of waits may lead through the database: a holder waits there
# for the lock of a row that belongs to one of its waiters. That is not to be seen from
# here, but such a holder stays in one statement. When it has, the waiters that hold a
# connection, and so may hold locks, stop waiting; they need no more of the pool.
#
# A timer looks for both, but only while there are waiters: nothing else needs those
# keys, and a timer keeps its loop alive.


class Sweeper:
    """A timer that looks after the holders of keys that others wait for."""

    def __init__(
        self,
        home: HomeLoop,
        holders: Mapping[Hashable, Owner],
        lines: Mapping[Hashable, Line],
        reclaim: Callable[[Owner], None],
        give_up: Callable[[Waiter], None],
    ) -> None:
        self._home = home
        self._holders = holders
        self._lines = lines
        self._reclaim = reclaim
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        # Owners that the last sweep found dead.
        self._suspects: set[Owner] = set()
        # Owners that it found in the middle of a statement, and since when.
        self._executing: dict[Owner, float] = {}

    def start(self) -> None:
        """Begin to sweep, if it has not begun."""
        if self._timer is None:
            self._sweep()

    def stop(self) -> None:
        """Stop: the timer refers to the loop, which would never be collected."""
        assert self._timer is not None  # noqa: S101 - the last wait ends only once
        self._timer.cancel()
        self._timer = None
        self._suspects, self._executing = set(), {}

    def _sweep(self) -> None:
        # Before anything else, because the end of the last wait stops it.
        self._timer = self._home.call_at(self._home.time() + SWEEP, self._sweep)
        lines = list(self._lines.items())
        owners = {holder for key, _ in lines if (holder := self._holders.get(key))}
        owners.update(line.scout for _, line in lines if line.scout is not None)
        dead = {owner for owner in owners if not owner.is_alive()}
        # Only an owner found dead twice is reclaimed. A transaction looks dead while
        # its connection is being reset, and then releases its keys itself.
        gone, self._suspects = dead & self._suspects, dead
        for owner in gone:
            self._reclaim(owner)
        self._end_hidden_cycles()

    def _end_hidden_cycles(self) -> None:
        """End the waits that may be part of a cycle through the database."""
        now = self._home.time()
        lines = [line.connected() for line in list(self._lines.values())]
        waiting = {waiters[0].key: waiters for waiters in lines if waiters}
        last = {key: follow(self._holders, key)[0] for key in waiting}
        self._executing = {
            owner: self._executing.get(owner, now)
            for owner in set(last.values())
            if owner.is_executing()
        }
        for key, waiters in waiting.items():
            if now - self._executing.get(last[key], now) >= STATEMENT:
                for waiter in waiters:
                    self._give_up(waiter)
