"""Queue for keys, within one event loop."""

import asyncio
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from time import perf_counter
from typing import Any, Final
from weakref import ref

from .memory import Memory
from .owner import Answer, Owner, Waiter, next_waiter
from .statistics import Counts

# Seconds between two sweeps for owners that ended without releasing their keys.
_SWEEP: Final = 0.05


# Why not a dict of `asyncio.Lock`? It was measured, and failed in four ways. An
# `asyncio.Lock` wakes one waiter at a time, so 200 concurrent hits on one key took
# 1237 ms instead of 102. It is released by a line of code, which a second cancellation
# can skip: of 80 requests with deadlines, 40 left their lock held for ever. It does not
# know what its holder waits for, so two transactions that take two keys in opposite
# orders hang. And it is bound to the event loop that it was first contended on.
#
# So a key is held by an owner, which can be asked whether it is still alive, and a
# release says what the owner leaves behind. If the row exists, every waiter is told at
# once and reads it without the key. If it does not, the key passes directly to one
# waiter: no newcomer can slip in between, and exactly one more INSERT is tried.
#
# A cycle of waits can only be closed by a new waiter: a key passes to an owner that
# has stopped waiting (`release`) or is not waiting (`take`). So one walk from the key's
# holder, before waiting, finds every cycle. All of its members then go on without the
# key, because only the database can tell a deadlock, and end it.
#
# Some transactions end without an event: their connection died, or their close() was
# cancelled. A timer sweeps for them, but only while there are waiters: nothing else
# needs those keys, and a timer keeps its loop alive.


class Queues:
    """The keys that are held in one event loop, and the queues for them."""

    # Not for threads other than the loop's: they may only ask for figures, and call
    # `is_closed`, `run` and `run_soon`.

    def __init__(
        self, loop: asyncio.AbstractEventLoop, most_known: int, counts: Counts
    ) -> None:
        self.counts: Counts = counts
        self.memory: Memory = Memory(most_known)
        # Weak, because the registry keeps these queues as long as their loop lives.
        self._loop = ref(loop)
        self._holders: dict[Hashable, Owner] = {}
        # {key: its waiters in order of arrival}; dicts, because a waiter may leave from
        # the middle. A key without waiters has no queue.
        self._queues: dict[Hashable, dict[Waiter, None]] = {}
        # All waiters that stand in a queue.
        self._waiting: set[Waiter] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        # Owners that the last sweep found dead.
        self._suspects: set[Owner] = set()

    @property
    def held(self) -> int:
        """How many keys are held."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many owners wait for a key."""
        return len(self._waiting)

    def is_closed(self) -> bool:
        """Whether the loop is closed, so that nothing waits here any more."""
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
            with suppress(RuntimeError):  # The loop is closed.
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
            # A higher rank takes the key over. An owner that waits in another task
            # does not: a key would pass to a waiting owner, and could close a cycle.
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
        """Wait at most *limit* seconds for *key*, which another owner holds."""
        # `around` are owners that cannot go on before this wait has ended: waiting for
        # one of them is a cycle, too. `on_timeout` is told for how many seconds the
        # holder has had the key.
        if self._is_cycle(key, owner, around):
            self.counts.deadlocks_avoided += 1
            return Answer.DEADLOCK
        loop = asyncio.get_running_loop()
        waiter = Waiter(key, owner, owner.rank(), loop.create_future())
        self._enter(waiter)
        # asyncio.wait_for and asyncio.timeout cancel the task, and a cancellation from
        # outside that comes at the same time may get lost (wait_for, Python 3.11).
        arguments = (waiter, on_timeout)
        timer = limit is not None and loop.call_later(limit, self._time_out, *arguments)
        try:
            return await waiter.answer
        except BaseException:
            # The key may have been granted in the tick of the cancellation. It passes
            # on, or the others would wait for an owner that does not know of it.
            if waiter.has_answer(Answer.GRANTED):
                self.release(key, owner)
            raise
        finally:
            self._leave(waiter)
            if timer:
                timer.cancel()

    def release(
        self, key: Hashable, owner: Owner, answer: Answer = Answer.GRANTED
    ) -> None:
        """Give *key* back, and tell its waiters *answer*."""
        # The owner may have ended twice, or lost the key to a higher rank: the key of
        # its successor must not be released.
        if self._holders.get(key) is not owner:
            return
        del owner.keys[key]
        self.memory.add(key, exists=answer is not Answer.GRANTED)
        queue = self._queues.get(key, ())
        successor = next_waiter(queue) if answer is Answer.GRANTED else None
        if successor is not None:
            self._give(key, successor.owner)
            self._answer(successor, Answer.GRANTED)
            return
        del self._holders[key]
        for waiter in list(queue):
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
        # An owner stands in one queue at a time, or the walk below would have to
        # branch. So its second task does not wait.
        if owner.waits is not None:
            return True
        members: list[Waiter] = []
        holder = self._holders[key]
        while holder is not owner and holder not in around:
            if holder.waits is None or not holder.waits.is_live:
                return False
            members.append(holder.waits)
            holder = self._holders[holder.waits.key]
        for waiter in members:
            self.counts.deadlocks_avoided += 1
            self._answer(waiter, Answer.DEADLOCK)
        return True

    def _enter(self, waiter: Waiter) -> None:
        self._queues.setdefault(waiter.key, {})[waiter] = None
        waiter.owner.waits = waiter
        self._waiting.add(waiter)
        self.counts.waited += 1
        if len(self._waiting) == 1:
            self._sweep()

    def _leave(self, waiter: Waiter) -> None:
        # An answered waiter has left its queue already, and its owner may wait again.
        if waiter not in self._waiting:
            return
        self._waiting.remove(waiter)
        waiter.owner.waits = None
        queue = self._queues[waiter.key]
        del queue[waiter]
        if not queue:
            del self._queues[waiter.key]
        if self._sweeper is not None and not self._waiting:
            # The timer refers to the loop, which would then never be collected.
            self._sweeper.cancel()
            self._sweeper = None
            self._suspects = set()

    def _time_out(
        self, waiter: Waiter, on_timeout: Callable[[float], object] | None
    ) -> None:
        # An answer may have come in the tick in which the timer fires: it counts.
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
        """Look for owners that ended unnoticed, as long as there are waiters."""
        owners = {self._holders[waiter.key] for waiter in self._waiting}
        dead = {owner for owner in owners if not owner.is_alive()}
        # Only an owner found dead twice is reclaimed. A transaction looks dead while
        # its connection is being reset, and then releases its keys itself.
        for owner in dead & self._suspects:
            self.reclaim(owner)
        if self._waiting:
            self._suspects = dead
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(_SWEEP, self._sweep)
