"""Queue for keys, within one event loop."""

import asyncio
from collections.abc import Callable, Collection, Hashable
from time import perf_counter

from .holders import Holders
from .home import HomeLoop
from .line import Line, Waiter
from .owner import Answer, Owner
from .statistics import Counts
from .sweeper import SWEEP, Sweeper
from .waits import follow

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


class Queues(Holders):
    """The keys that are held in one event loop, and the lines for them."""

    # Not for threads other than the loop's, nor for what the garbage collector calls
    # at any moment: these may only ask for figures, and call what they need by `home`.

    def __init__(
        self, loop: asyncio.AbstractEventLoop, most_known: int, counts: Counts
    ) -> None:
        super().__init__(most_known, counts)
        self.home: HomeLoop = HomeLoop(loop)
        self._waiting: set[Waiter] = set()  # All that stand in a line.
        self._sweeper = Sweeper(
            self.home, self._holders, self._lines, self.reclaim, self._give_up
        )

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self, key: Hashable, owner: Owner) -> bool:
        """Take *key*, if that needs no waiting; say whether *owner* holds it now."""
        holder = self._holders.get(key)
        if holder is owner:
            return True
        if holder is not None:
            # A scout takes it over, and so does a higher rank; but no owner that waits
            # in another task, which could close a cycle.
            line = self._lines.get(key)
            is_scout = line is not None and line.scout is owner
            outranks = is_scout or owner.rank() > holder.rank()
            if owner.waits is not None or not outranks:
                return False
            if line is not None and is_scout:
                line.scout, owner.scouted = holder, line  # It will meet our row.
            else:
                self._lose(key, holder)
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
        """Wait for *key*, which its holder may keep for *limit* seconds."""
        # `around` are owners that cannot go on before this wait ends: waiting for one
        # is a cycle. `on_timeout` is told, once for each holder, how long it kept it.
        if self._is_cycle(key, owner, around):
            self.counts.deadlocks_avoided += 1
            return Answer.DEADLOCK
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiter = Waiter(key, owner, owner.rank(), limit, on_timeout, future)
        self._enter(waiter)
        # asyncio.wait_for and asyncio.timeout cancel the task, and a cancellation from
        # outside that comes at the same time may get lost (wait_for, Python 3.11).
        try:
            return await future
        except GeneratorExit:
            self.home.run_soon(self._abandon, waiter)
            raise
        except BaseException:
            self._abandon(waiter)
            raise

    def release(
        self, key: Hashable, owner: Owner, answer: Answer = Answer.GRANTED
    ) -> None:
        """Give *key* back, and tell its waiters *answer*."""
        line = self._lines.get(key) if self._lines else None
        if line is not None and line.scout is owner:
            line.scout = None
        elif self._holders.get(key) is owner:
            del self._holders[key]
        else:
            return  # It has ended twice, or has lost the key to a higher rank.
        self._lose(key, owner)
        self.memory.add(key, exists=answer is not Answer.GRANTED)
        if line is None:
            return
        if answer is not Answer.GRANTED:
            line.next_scout = None
            for waiter in line:
                self._answer(waiter, answer)
        if key in self._holders:
            self._arrange(key, line)
        else:
            self._pass_on(key, line)

    def release_all(
        self, keys: Collection[Hashable], owner: Owner, answer: Answer = Answer.GRANTED
    ) -> None:
        """Give *keys* back, and tell the waiters of each *answer*."""
        if len(keys) == 1 or (self._lines and not self._lines.keys().isdisjoint(keys)):
            for key in keys:
                self.release(key, owner, answer)
        else:
            self._drop_all(keys, owner, answer)

    def reclaim(self, owner: Owner) -> None:
        """Release all that an owner held which ended without doing so."""
        for key in list(owner.keys):
            self.counts.reclaimed += 1
            self.release(key, owner)

    def _pass_on(self, key: Hashable, line: Line) -> None:
        """Give a free key to the scout, or else to the first in line."""
        first, scout = line.first(), line.scout
        is_fit = scout is not None and scout.waits is None
        if scout and (first is None or (is_fit and first.rank <= scout.rank())):
            line.scout = None
            self._give(key, scout)
        elif first is not None:
            self._give(key, first.owner)
            self._answer(first, Answer.GRANTED)

    def _give(self, key: Hashable, owner: Owner) -> None:
        self._holders[key] = owner
        owner.keys[key] = perf_counter()
        self.counts.acquired += 1
        if (line := self._lines.get(key)) is not None:
            line.since = self.home.time()
            self._arrange(key, line)

    def _is_cycle(self, key: Hashable, owner: Owner, around: Collection[Owner]) -> bool:
        """Whether waiting would close a cycle; its members then stop waiting, too."""
        # An owner stands in one line at a time, or the walk below would have to branch.
        # So its second task does not wait.
        if owner.waits is not None:
            return True
        last, members = follow(self._holders, key, {owner, *around})
        is_ours = last.task is not None and last.task is asyncio.current_task()
        if last is not owner and last not in around and not is_ours:
            return False
        for waiter in members:
            self._give_up(waiter)
        return True

    def _give_up(self, waiter: Waiter) -> None:
        self.counts.deadlocks_avoided += 1
        self._answer(waiter, Answer.DEADLOCK)

    def _enter(self, waiter: Waiter) -> None:
        key = waiter.key
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key, self.home.time())
        line.add(waiter)
        waiter.owner.waits = waiter
        self._waiting.add(waiter)
        self.counts.waited += 1
        scout = line.next_scout
        if waiter.limit is not None and (scout is None or waiter.rank > scout.rank):
            self._arrange(key, line)
        self._sweeper.start()

    def _leave(self, waiter: Waiter) -> None:
        # An answered waiter has left its line already, and its owner may wait again.
        if waiter not in self._waiting:
            return
        self._waiting.remove(waiter)
        waiter.owner.waits = None
        line = self._lines[waiter.key]
        line.remove(waiter)
        if waiter is line.next_scout or line.is_empty:
            self._arrange(waiter.key, line)
        if not self._waiting:
            self._sweeper.stop()

    def _abandon(self, waiter: Waiter) -> None:
        self._leave(waiter)
        # The key may have been granted in the tick of the cancellation. It passes on,
        # or the others would wait for an owner that does not know of it.
        if waiter.has_answer(Answer.GRANTED, Answer.TIMEOUT):
            self.release(waiter.key, waiter.owner)

    def _answer(self, waiter: Waiter, answer: Answer) -> None:
        self._leave(waiter)
        if waiter.is_live:
            waiter.answer.set_result(answer)

    def _arrange(self, key: Hashable, line: Line) -> None:
        """Send the next scout in time; drop a line that has ended."""
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        if line.is_empty and line.scout is None:
            self._lines.pop(key, None)
        line.next_scout = first = line.next_to_ask()
        if first is not None and first.limit is not None:
            # A bulk call would wait for each of its keys anew.
            wait = 0.0 if self._holders[key].is_overdue else first.limit
            due = max(line.since + wait, 0.0 if first.rank else line.again)
            line.timer = self.home.call_at(due, self._send_scout, key, line, first)

    def _send_scout(self, key: Hashable, line: Line, scout: Waiter) -> None:
        """Let the first in line ask the database, and all that have a connection."""
        if not scout.is_live:
            return  # It was cancelled in the tick in which the timer fires.
        holder = self._holders[key]
        # One that needs a connection goes alone, whichever key of the holder it is for.
        if holder.is_in_line(key) or (holder.has_scout and not scout.rank):
            line.again = self.home.time() + SWEEP
            self._arrange(key, line)
            return
        self.counts.timeouts += 1
        if line.scout is None:
            line.scout, holder.scouted = scout.owner, line
            scout.owner.keys[key] = perf_counter()
            self._answer(scout, Answer.TIMEOUT)
        for waiter in line.connected(has_limit=True):
            self._give_up(waiter)
        if not holder.is_overdue:
            holder.is_overdue = True
            if scout.on_timeout is not None:
                scout.on_timeout(perf_counter() - holder.keys[key])
