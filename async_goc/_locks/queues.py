"""Queue for keys, within one event loop.

This machine knows nothing of sessions, nor of what a key stands for. It is an adviser:
the unique constraint in the database is the judge. So whatever goes wrong here (time
runs out, owners wait for each other, one dies) ends as if there were no keys at all.
"""

import asyncio
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final
from weakref import ref

from .memory import Memory
from .owner import Answer, Owner, Waiter, next_waiter

# Seconds between looks for owners that ended unnoticed, while somebody waits.
_SWEEP: Final = 0.05


@dataclass(slots=True)
class Counts:
    """What has happened so far; see :class:`LockStatistics`."""

    acquired: int = 0
    waited: int = 0
    collapsed: int = 0
    timeouts: int = 0
    deadlocks_avoided: int = 0
    reclaimed: int = 0


class Queues:
    """The keys that are held in one event loop, and who waits for them.

    Only that loop's thread calls the methods; any other uses :meth:`run`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, most_known: int, counts: Counts
    ) -> None:
        self.counts: Counts = counts
        self.memory: Memory = Memory(most_known)
        # Weakly: the loop is what this state hangs on.
        self._loop = ref(loop)
        self._holders: dict[Hashable, Owner] = {}
        # Who waits for a key, in order of arrival; dicts, because anyone may leave.
        self._lines: dict[Hashable, dict[Waiter, None]] = {}
        # Everybody whose answer is outstanding.
        self._waiting: set[Waiter] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        # Owners that the last sweep has found dead.
        self._suspects: set[Owner] = set()

    @property
    def held(self) -> int:
        """How many keys are held."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def is_closed(self) -> bool:
        """Whether the loop is, so that nobody comes back for anything."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def run(self, function: Callable[..., object], *args: Any) -> None:
        """Call *function* in the loop's thread: at once, if this is the one."""
        try:
            is_here = asyncio.get_running_loop() is self._loop()
        except RuntimeError:  # no loop runs in this thread
            is_here = False
        if is_here:
            function(*args)
        else:
            self.run_soon(function, *args)

    def run_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call *function* in the loop's thread, and in the middle of nothing."""
        loop = self._loop()
        if loop is not None:
            with suppress(RuntimeError):  # closed: nobody waits any more
                loop.call_soon_threadsafe(function, *args)

    def holds(self, owner: Owner, key: Hashable) -> bool:
        """Whether *owner* holds *key*."""
        return self._holders.get(key) is owner

    def take(self, key: Hashable, owner: Owner) -> bool:
        """Take *key*, if that needs no waiting; say whether *owner* holds it now."""
        holder = self._holders.get(key)
        if holder is owner:
            return True
        if holder is not None:
            if owner.waits is not None or owner.rank() <= holder.rank():
                return False
            del holder.keys[key]
        self._give(key, owner)
        return True

    async def wait(
        self,
        key: Hashable,
        owner: Owner,
        limit: float | None,
        *,
        around: Collection[Owner] = (),
        on_timeout: Callable[[float], object] | None = None,
    ) -> Answer:
        """Wait for *key*, which somebody else holds.

        Args:
            key: The key.
            owner: Who wants it.
            limit: Seconds to wait at most; ``None``: no limit.
            around: Other owners who cannot go on before this wait has ended.
            on_timeout: Called when the time is over, with the seconds for which the
                present owner has held the key.
        """
        if self._is_cycle(key, owner, around):
            self.counts.deadlocks_avoided += 1
            return Answer.DEADLOCK
        loop = asyncio.get_running_loop()
        waiter = Waiter(key, owner, loop.create_future())
        self._enter(waiter)
        # Not asyncio.wait_for, nor asyncio.timeout: they cancel the task, and another
        # cancellation at the same time may get lost.
        timer = limit is not None and loop.call_later(
            limit, self._give_up, waiter, on_timeout
        )
        try:
            return await waiter.answer
        except BaseException:
            # Cancelled. A key that came in this very tick goes to the next one.
            if waiter.has_got(Answer.GRANTED):
                self.release(key, owner)
            raise
        finally:
            self._leave(waiter)
            if timer:
                timer.cancel()

    def release(
        self, key: Hashable, owner: Owner, answer: Answer = Answer.GRANTED
    ) -> None:
        """Give *key* back; without effect if *owner* does not hold it (any more).

        Args:
            key: The key.
            owner: Who held it.
            answer: ``CREATED`` and ``FOUND`` go to all who wait, and they can read
                the row at the same time. ``GRANTED`` goes to one, with the key.
        """
        if self._holders.get(key) is not owner:
            return
        del owner.keys[key]
        self.memory.add(key, exists=answer is not Answer.GRANTED)
        line = self._lines.get(key, ())
        successor = next_waiter(line) if answer is Answer.GRANTED else None
        if successor is not None:
            self._give(key, successor.owner)
            self._answer(successor, Answer.GRANTED)
            return
        del self._holders[key]
        for waiter in list(line):
            self._answer(waiter, answer)

    def reclaim(self, owner: Owner) -> None:
        """Release all that an owner held which ended without doing so."""
        for key in list(owner.keys):
            self.counts.reclaimed += 1
            self.release(key, owner)

    def _give(self, key: Hashable, owner: Owner) -> None:
        self._holders[key] = owner
        owner.keys[key] = perf_counter()
        self.counts.acquired += 1

    def _is_cycle(self, key: Hashable, owner: Owner, around: Collection[Owner]) -> bool:
        """Whether waiting would close a cycle; its members then stop waiting, too."""
        if owner.waits is not None:
            return True  # in another task: an owner stands in one queue at a time
        members: list[Waiter] = []
        holder = self._holders[key]
        while holder is not owner and holder not in around:
            if holder.waits is None or not holder.waits.is_live:
                return False
            members.append(holder.waits)
            holder = self._holders[holder.waits.key]
        # The database can tell whether this is a deadlock, and ends it. We cannot.
        for waiter in members:
            self.counts.deadlocks_avoided += 1
            self._answer(waiter, Answer.DEADLOCK)
        return True

    def _enter(self, waiter: Waiter) -> None:
        self._lines.setdefault(waiter.key, {})[waiter] = None
        waiter.owner.waits = waiter
        self._waiting.add(waiter)
        self.counts.waited += 1
        if len(self._waiting) == 1:
            self._sweep()

    def _leave(self, waiter: Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            waiter.owner.waits = None
            line = self._lines[waiter.key]
            del line[waiter]
            if not line:
                del self._lines[waiter.key]
            if self._sweeper is not None and not self._waiting:
                # A timer refers to the loop, which would then never go.
                self._sweeper.cancel()
                self._sweeper = None
                self._suspects = set()

    def _give_up(
        self, waiter: Waiter, on_timeout: Callable[[float], object] | None
    ) -> None:
        if waiter.is_live:
            self.counts.timeouts += 1
            held = perf_counter() - self._holders[waiter.key].keys[waiter.key]
            self._answer(waiter, Answer.TIMEOUT)
            if on_timeout is not None:
                on_timeout(held)

    def _answer(self, waiter: Waiter, answer: Answer) -> None:
        self._leave(waiter)
        if waiter.is_live:
            waiter.answer.set_result(answer)

    def _sweep(self) -> None:
        """Look for owners that ended unnoticed, as long as somebody waits."""
        owners = {self._holders[waiter.key] for waiter in self._waiting}
        dead = {owner for owner in owners if not owner.is_alive()}
        # Seen twice: the first time, it may have been ending at that moment.
        for owner in dead & self._suspects:
            self.reclaim(owner)
        self._suspects = dead if self._waiting else set()
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(_SWEEP, self._sweep)
