"""Whatever happens to the registry, in any order: what LOCKS.md promises holds.

The numbers are those of the invariants in LOCKS.md.
"""

import asyncio

import pytest
from clockwork import Call, Holder, Simulation
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from async_goc._locks.owner import Answer
from async_goc._locks.sweeper import SWEEP

TICK = 0.01  # seconds: how finely the clock is advanced
KEYS = st.sampled_from("ab")
ANSWERS = st.sampled_from([Answer.GRANTED, Answer.CREATED, Answer.FOUND])
OWNERS = st.integers(0, 5)
SETTLE = st.booleans()
LIMITS = st.sampled_from([None, 0.2, 0.03, 0.0])
ASKED = st.lists(st.tuples(KEYS, OWNERS, LIMITS), min_size=2, max_size=5)


class Registry(Simulation):
    """Owners ask, release, take over, are cancelled and die, also in the same tick."""

    async def ask(self, call: Call) -> None:
        key, owner = call.key, call.owner
        call.order, call.rank = next(self.order), owner.rank()
        call.since = self.loop.now
        if self.scout(key) is owner:
            return
        before = self.holder(key)
        is_first = owner.waits is None  # not in another task
        if self.queues.take(key, owner):
            # 2. Exclusion: it was free, or the holder held no connection.
            assert before in {None, owner} or (is_first and before.level < owner.level)
            return
        assert self.holder(key) is before
        # 9. Re-entrancy
        assert self.holder(key) not in {None, owner}
        if not is_first:
            assert await self.queues.wait(key, owner, call.limit) is Answer.DEADLOCK
            return
        members = self.members(key, owner)
        self.loop.call = call
        answer = await self.queues.wait(key, owner, call.limit)
        self.loop.call = None
        if call.answer is None:
            # 12. No cycle: none of its members waits any longer.
            assert answer is Answer.DEADLOCK
            assert members is not None
            for each in members:
                each.is_in_cycle = True
                assert each.answer.result() is Answer.DEADLOCK
        # 4. Liveness: one outcome, and a true one
        elif answer is Answer.TIMEOUT:
            # 7. FIFO among those that have a limit, as long as it is the scout.
            limited = [each for each in self.queue(key) if each.limit is not None]
            order = [(-each.rank, each.order) for each in limited]
            is_next = all((-call.rank, call.order) < each for each in order)
            assert is_next or self.scout(key) is not owner
        elif answer is Answer.DEADLOCK:
            # Or it has a connection, and the holder has kept the key for too long.
            assert call.is_in_cycle or (call.rank and call.limit is not None)
        elif self.holder(key) is owner:  # Nobody has taken it over since.
            # 7. FIFO, within a rank
            overtaken = [(-each.rank, each.order) for each in self.queue(key)]
            assert all((-call.rank, call.order) < each for each in overtaken)

    @initialize(ranks=st.tuples(*[st.integers(0, 1)] * 6))
    def begin(self, ranks: tuple[int, ...]) -> None:
        self.owners = [Holder(rank, place) for place, rank in enumerate(ranks)]

    @rule(owner=OWNERS)
    def check_out(self, owner: int) -> None:
        if self.owners[owner].waits is None:  # It does nothing else while it waits.
            self.owners[owner].level = 1

    @rule(owner=OWNERS, rank=st.integers(0, 1), place=OWNERS, is_told=st.booleans())
    def end(self, owner: int, rank: int, place: int, *, is_told: bool) -> None:
        """One ends without releasing, and another one begins."""
        dead, self.owners[owner] = self.owners[owner], Holder(rank, place)
        self.dead.append(dead)
        dead.is_well = False
        if is_told:  # as by the garbage collector
            self.queues.home.run_soon(self.queues.reclaim, dead)

    @rule(asked=ASKED)
    def call_and_wait(self, asked: list[tuple[str, int, float | None]]) -> None:
        self.call(asked, settle=True)

    @rule(asked=ASKED, settle=SETTLE)
    def call(self, asked: list[tuple[str, int, float | None]], *, settle: bool) -> None:
        for key, number, limit in asked:
            idle = [each for each in self.owners if each.waits is None] or self.owners
            call = Call(key, idle[number % len(idle)], limit)
            call.task = self.loop.create_task(self.ask(call))
            self.calls.append(call)
        self.settle(really=settle)

    @rule(key=KEYS, answer=ANSWERS, settle=SETTLE)
    def release(self, key: str, answer: Answer, *, settle: bool) -> None:
        holder, scout, queue = self.holder(key), self.scout(key), self.queue(key)
        if holder is None:
            return
        self.queues.release(key, holder, answer)
        assert self.queues.memory.exists(key) is (answer is not Answer.GRANTED)
        # 4. No grant is lost. 7. FIFO. 6. No serialised hits: not even a tick later
        told = queue
        if answer is Answer.GRANTED:
            is_fit = scout and not scout.waits
            is_outranked = scout and queue and queue[0].rank > scout.level
            is_scout_next = scout and (not queue or (is_fit and not is_outranked))
            told = [] if is_scout_next else queue[:1]
        assert self.queue(key) == queue[len(told) :]
        assert all(call.answer.result() is answer for call in told)
        first = told[0].owner if told and answer is Answer.GRANTED else None
        assert self.holder(key) is (first or scout)
        assert self.scout(key) is (scout if first else None)
        self.settle(really=settle)

    @rule(key=KEYS, answer=ANSWERS)
    def return_from_the_database(self, key: str, answer: Answer) -> None:
        """What a scout has found is told to all; if it fails, the next one goes."""
        holder, scout, queue = self.holder(key), self.scout(key), self.queue(key)
        if scout is None:
            return
        self.queues.release(key, scout, answer)
        told = queue if answer is not Answer.GRANTED else []
        assert self.queue(key) == queue[len(told) :]
        assert all(call.answer.result() is answer for call in told)
        assert self.holder(key) is holder
        self.settle()

    @rule(key=KEYS, settle=SETTLE)
    def create_in_the_database(self, key: str, *, settle: bool) -> None:
        """A scout that has created the row is what the others wait for from then on."""
        holder, scout = self.holder(key), self.scout(key)
        if scout is None or scout.waits:
            return
        scout.level = 1  # It has a connection by now.
        assert self.queues.take(key, scout)
        assert (self.holder(key), self.scout(key)) == (scout, holder)
        self.settle(really=settle)

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, 9), settle=SETTLE)
    def cancel(self, number: int, *, settle: bool) -> None:
        self.calls[number % len(self.calls)].task.cancel()
        self.settle(really=settle)

    @rule(key=KEYS, answer=ANSWERS, is_late=st.booleans())
    def release_and_cancel(self, key: str, answer: Answer, *, is_late: bool) -> None:
        """4. No grant is lost if the first is cancelled just before or after it."""
        self.settle()
        holder, queue = self.holder(key), self.queue(key)
        if not queue or self.scout(key):
            return
        if is_late:
            self.queues.release(key, holder, answer)
        queue[0].task.cancel()
        if not is_late:
            self.queues.release(key, holder, answer)
        self.settle()
        told = queue[1:] if answer is not Answer.GRANTED else queue[1:2]
        assert all(call.answer.result() is answer for call in told)
        is_handed = bool(told) and answer is Answer.GRANTED
        assert self.holder(key) is (told[0].owner if is_handed else None)

    @rule(ticks=st.integers(1, 12))
    def advance(self, ticks: int) -> None:
        for _ in range(ticks):
            self.settle()
            self.check()
            self.check_limits()
            self.loop.now += TICK
        self.settle()

    def check_limits(self) -> None:
        """4. Liveness: no holder keeps the first in line for longer than its limit."""
        for key, (holder, since) in self.kept.items():
            # Those without a connection go one by one, for all keys of the holder.
            if holder.has_scout or self.scout(key):
                self.asked[holder] = self.loop.now
            limited = [c for c in self.queue(key) if c.limit is not None]
            is_alone = self.scout(key) is None and not holder.has_scout
            if limited and (limited[0].rank or is_alone):
                asked = -1 if limited[0].rank else self.asked.get(holder, -1)
                # Whether one of them is back is looked at from time to time.
                most = limited[0].limit + (TICK if limited[0].rank else SWEEP + TICK)
                assert self.loop.now - max(since, asked) <= most + TICK / 2

    @invariant()
    def keys_are_exclusive(self) -> None:
        """2. Exclusion: each key is in the hands of the one owner who knows of it."""
        owners = {*self.owners, *self.dead}
        held = [(key, owner) for owner in owners for key in owner.keys]
        scouts = {(key, scout) for key in "ab" if (scout := self.scout(key))}
        assert set(held) == scouts | set(self.queues._holders.items())
        assert len(held) == len(scouts) + len(self.queues._holders)

    @invariant()
    def late_releases_are_harmless(self) -> None:
        """13. An owner that does not hold the key frees nothing and tells no waiter."""
        memory = dict(self.queues.memory._released)
        for key in "ab":
            holder, queue = self.holder(key), self.queue(key)
            others = {*self.owners, *self.dead[-4:]}
            for owner in others - {holder, self.scout(key)}:
                self.queues.release(key, owner, Answer.CREATED)
                self.queues.release(key, owner)
            assert (self.holder(key), self.queue(key)) == (holder, queue)
        assert self.queues.memory._released == memory

    @invariant()
    def nobody_waits_in_a_circle(self) -> None:
        """12. The graph is acyclic. And no connection waits for an owner without."""
        for call in self.calls:
            if call.waits:
                assert self.members(call.key, call.owner) is None
                assert self.holder(call.key).level >= call.rank

    @invariant()
    def check(self) -> None:
        now, waiting = self.loop.now, [call for call in self.calls if call.waits]
        # 4. Liveness: in time, and no key stays with a dead owner if others want it
        holders = {call.key: self.holder(call.key) for call in waiting}
        self.kept = {
            key: self.kept[key] if self.kept.get(key, (0,))[0] is holder else new
            for key, holder in holders.items()
            if (new := (holder, now))
        }
        stuck = {call.key: (self.holder(call.key), now) for call in waiting}
        self.stuck = {
            key: self.stuck[key] if self.stuck.get(key, (0,))[0] is owner else new
            for key, new in stuck.items()
            if not (owner := new[0]).is_well
        }
        assert all(now - since <= 2 * SWEEP + TICK for _, since in self.stuck.values())
        # 3. No leak
        if not self.loop._ready:
            assert self.queues.waiting == len(waiting)
            lines = self.queues._lines.items()
            places = {key: len(list(line)) for key, line in lines}
            assert all(count or self.scout(key) for key, count in places.items())
            assert sum(places.values()) == len(waiting)
            owners = {owner for owner in self.owners + self.dead if owner.waits}
            assert owners == {call.owner for call in waiting}
            timers = [each for each in self.loop._scheduled if not each.cancelled()]
            free = {
                call.key
                for call in waiting
                if call.limit is not None
                and (call.rank or self.scout(call.key) is None)
            }
            assert (self.queues._sweeper._timer is not None) is bool(waiting)
            assert len(timers) == len(free) + bool(waiting)

    def teardown(self) -> None:
        """3. No leak, 4. liveness: once all have released, nothing is left."""
        try:
            self.settle()
            while self.queues.held:
                for key, holder in list(self.queues._holders.items()):
                    if scout := self.scout(key):
                        self.queues.release(key, scout)
                    self.queues.release(key, holder)
                self.settle()
            assert not self.calls
            assert (self.queues.waiting, self.queues._lines) == (0, {})
            assert self.queues._sweeper._timer is None
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.tick()
            self.loop.close()


class TestRegistry(Registry.TestCase):
    settings = settings(
        max_examples=50,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@pytest.mark.heavy
class TestRegistryForLonger(Registry.TestCase):
    settings = settings(TestRegistry.settings, max_examples=150)
