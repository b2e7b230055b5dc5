"""The registry alone: who gets a key, when, and what the others are told."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import asdict
from threading import get_ident
from time import perf_counter
from weakref import ref

import pytest

from async_goc._locks.memory import Memory
from async_goc._locks.owner import Answer, Owner
from async_goc._locks.queues import Queues
from async_goc._locks.registry import KeyedLocks
from async_goc._locks.statistics import Counts

Task = asyncio.Task[Answer]


class Holder(Owner):
    """An owner whose life and rank the test decides on."""

    def __init__(self, rank: int = 0) -> None:
        super().__init__()
        self.is_well = True
        self.level = rank

    def is_alive(self) -> bool:
        return self.is_well

    def rank(self) -> int:
        return self.level


@pytest.fixture
async def queues() -> AsyncIterator[Queues]:
    """The running loop's queues; at the end, nobody may be left in them."""
    queues = KeyedLocks().queues()
    yield queues
    assert queues.waiting == 0


async def tick() -> None:
    """Let everything that is ready run once."""
    await asyncio.sleep(0)


async def line_up(
    queues: Queues, *owners: Owner, key: str = "k", limit: float | None = None
) -> list[Task]:
    """Let each owner wait for the key, in this order."""
    tasks = []
    for owner in owners:
        assert not queues.take(key, owner)
        tasks.append(asyncio.create_task(queues.wait(key, owner, limit)))
        await tick()
    return tasks


async def test_free_key_is_granted_again_and_again(queues: Queues) -> None:
    """A free key needs no waiting, nor does one that the owner already has."""
    owner, other = Holder(), Holder()
    assert queues.take("k", owner)
    assert queues.take("k", owner)
    assert (queues.holds(owner, "k"), queues.holds(other, "k")) == (True, False)
    assert (queues.held, queues.counts.acquired, [*owner.keys]) == (1, 1, ["k"])
    queues.release("k", owner)
    assert (queues.held, queues.holds(owner, "k"), owner.keys) == (0, False, {})


async def test_absent_row_hands_the_key_to_the_first(queues: Queues) -> None:
    """Without a row the key goes to one after the other, in order of arrival."""
    holder, *others = [Holder() for _ in range(4)]
    queues.take("k", holder)
    tasks = await line_up(queues, *others)
    assert (queues.waiting, queues.counts.waited) == (3, 3)
    for owner, task in zip(others, tasks, strict=True):
        queues.release("k", holder)
        assert queues.holds(owner, "k")
        await tick()
        assert task.result() is Answer.GRANTED
        assert queues.waiting == sum(not each.done() for each in tasks)
        holder = owner
    queues.release("k", holder)
    assert (queues.held, queues.counts.acquired) == (0, 4)


@pytest.mark.parametrize("answer", [Answer.CREATED, Answer.FOUND])
async def test_existing_row_wakes_all_at_once(queues: Queues, answer: Answer) -> None:
    """Once the row is there, all who wait are told so in the same tick."""
    holder, *others = [Holder() for _ in range(50)]
    queues.take("k", holder)
    tasks = await line_up(queues, *others)
    queues.release("k", holder, answer)
    assert (queues.held, queues.waiting) == (0, 0)
    await tick()
    assert {task.result() for task in tasks} == {answer}
    assert queues.memory.exists("k")


@pytest.mark.parametrize("limit", [0, 0.01])
async def test_time_runs_out(queues: Queues, limit: float) -> None:
    """A wait ends on time, and leaves the key with its holder."""
    holder, owner = Holder(), Holder()
    queues.take("k", holder)
    assert await queues.wait("k", owner, limit) is Answer.TIMEOUT
    assert queues.counts.timeouts == 1
    queues.release("k", holder)
    assert (queues.held, owner.keys) == (0, {})


async def test_owners_around_count_as_oneself(queues: Queues) -> None:
    """Nobody waits for who cannot go on before that wait ends, by whatever way."""
    around, other, asks = Holder(), Holder(), Holder()
    queues.take("k", around)
    queues.take("other", other)
    assert await queues.wait("k", asks, None, around=[around]) is Answer.DEADLOCK
    (task,) = await line_up(queues, other)
    assert await queues.wait("other", asks, None, around=[around]) is Answer.DEADLOCK
    assert await task is Answer.DEADLOCK
    assert queues.counts.deadlocks_avoided == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_complaint_about_the_time(queues: Queues, *, fails: bool) -> None:
    """A wait that takes too long is reported, and ends even if reporting fails."""
    holder, owner = Holder(), Holder()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    told: list[float] = []

    def on_timeout(held: float) -> None:
        told.append(held)
        if fails:
            raise OSError

    before = perf_counter()
    queues.take("k", holder)
    async with asyncio.timeout(5):
        answer = await queues.wait("k", owner, 0.01, on_timeout=on_timeout)
    assert answer is Answer.TIMEOUT
    assert 0 <= told.pop() <= perf_counter() - before
    assert (told, queues.counts.timeouts) == ([], 1)


async def test_limit_that_is_not_reached_counts_for_nothing(queues: Queues) -> None:
    """A key that comes in time is kept, though the time runs out in the same tick."""
    holder, owner = Holder(), Holder()
    queues.take("k", holder)
    (task,) = await line_up(queues, owner, limit=0)
    await tick()  # In this one the time will run out, but later than
    queues.release("k", holder)
    assert await task is Answer.GRANTED
    await tick()
    assert (queues.holds(owner, "k"), queues.counts.timeouts) == (True, 0)


@pytest.mark.parametrize("size", [2, 3])
async def test_cycle_ends_for_all_its_members(queues: Queues, size: int) -> None:
    """Owners who wait for each other all stop; one who waits for them does not."""
    members, bystander = [Holder() for _ in range(size)], Holder()
    for number, owner in enumerate(members):
        queues.take(str(number), owner)
    (waits,) = await line_up(queues, bystander, key="0")
    tasks: list[Task] = []
    for number, owner in enumerate(members):
        assert not any(task.done() for task in tasks)
        tasks += await line_up(queues, owner, key=str((number + 1) % size))
    await tick()
    assert [task.result() for task in tasks] == [Answer.DEADLOCK] * size
    assert queues.counts.deadlocks_avoided == size
    assert not waits.done()
    queues.release("0", members[0])
    assert await waits is Answer.GRANTED


async def test_second_task_of_an_owner_does_not_wait(queues: Queues) -> None:
    """An owner stands in one queue at a time, and takes over nothing meanwhile."""
    low, high, owner = Holder(), Holder(1), Holder(1)
    queues.take("low", low)
    queues.take("high", high)
    (first,) = await line_up(queues, owner, key="high")
    (second,) = await line_up(queues, owner, key="low")
    assert second.result() is Answer.DEADLOCK
    assert queues.take("free", owner)
    queues.release("high", high)
    assert await first is Answer.GRANTED


async def test_higher_rank_takes_over(queues: Queues) -> None:
    """The key of a lower rank is taken; its old owner can no longer release it."""
    low, high, waiting = Holder(), Holder(1), Holder()
    queues.take("k", low)
    (task,) = await line_up(queues, waiting)
    assert queues.take("k", high)
    assert ([*low.keys], [*high.keys]) == ([], ["k"])
    for answer in Answer:
        queues.release("k", low, answer)
    await tick()
    assert (queues.holds(high, "k"), task.done()) == (True, False)
    assert not queues.memory.exists("k")
    queues.release("k", high)
    assert await task is Answer.GRANTED


async def test_highest_rank_comes_first(queues: Queues) -> None:
    """A key is handed to the first of those with the highest rank."""
    holder, *others = [Holder(rank) for rank in (2, 0, 1, 2, 1, 2)]
    queues.take("k", holder)
    tasks = await line_up(queues, *others)
    order = []
    for _ in others:
        queues.release("k", holder)
        (holder,) = [owner for owner in others if queues.holds(owner, "k")]
        order.append(others.index(holder))
    assert order == [2, 4, 1, 3, 0]
    assert await asyncio.gather(*tasks) == [Answer.GRANTED] * 5


async def test_release_is_harmless_twice(queues: Queues) -> None:
    """Only the first release counts, though another owner has the key by then."""
    first, second, third = Holder(), Holder(), Holder()
    queues.take("k", first)
    tasks = await line_up(queues, second, third)
    queues.release("k", first)
    queues.release("k", first, Answer.CREATED)
    queues.release("unknown", first)
    assert await tasks[0] is Answer.GRANTED
    assert (queues.holds(second, "k"), tasks[1].done()) == (True, False)
    queues.release("k", second, Answer.CREATED)
    queues.release("k", second)
    assert await tasks[1] is Answer.CREATED
    assert (queues.memory.exists("k"), queues.memory.exists("unknown")) == (True, False)


async def test_dead_owner_loses_all_its_keys(queues: Queues) -> None:
    """Who waits for one key of a dead owner's frees the others, too."""
    dead, waiting, late = Holder(), Holder(), Holder()
    for key in ("k", "other"):
        queues.take(key, dead)
    (task,) = await line_up(queues, waiting)
    dead.is_well = False
    assert not queues.take("other", late)
    assert await task is Answer.GRANTED
    assert queues.take("other", late)
    assert (dead.keys, queues.counts.reclaimed) == ({}, 2)


async def test_owner_that_is_ending_has_time_to_say_so(queues: Queues) -> None:
    """One that looks dead for a moment is asked twice.

    A transaction is no longer its session's while its connection is being reset.
    """
    ending, waiting = Holder(), Holder()
    queues.take("k", ending)
    ending.is_well = False
    (task,) = await line_up(queues, waiting)
    assert queues.holds(ending, "k")
    queues.release("k", ending, Answer.CREATED)
    assert await task is Answer.CREATED
    assert queues.counts.reclaimed == 0


async def test_dead_owner_is_found_while_somebody_waits(queues: Queues) -> None:
    """A wait for an owner that ends without a word ends by itself, and soon."""
    dead, first, second = Holder(), Holder(), Holder()
    queues.take("k", dead)
    tasks = await line_up(queues, first, second)
    dead.is_well = False
    assert await tasks[0] is Answer.GRANTED
    first.is_well = False
    assert await tasks[1] is Answer.GRANTED
    second.is_well = False
    assert await queues.wait("k", Holder(), None) is Answer.GRANTED  # at once
    assert queues.counts.reclaimed == 3


@pytest.mark.parametrize("answer", [Answer.GRANTED, Answer.CREATED, Answer.FOUND])
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("count", [1, 2])
async def test_cancelled_waiter(
    queues: Queues, count: int, answer: Answer, *, is_late: bool
) -> None:
    """Nothing is lost if the first is cancelled just before or after it is told."""
    holder, *others = [Holder() for _ in range(1 + count)]
    queues.take("k", holder)
    first, *rest = await line_up(queues, *others)
    if is_late:
        queues.release("k", holder, answer)
    first.cancel()
    if not is_late:
        queues.release("k", holder, answer)
    await asyncio.wait([first])
    assert first.cancelled()
    assert (others[0].keys, others[0].waits) == ({}, None)
    assert await asyncio.gather(*rest) == [answer] * (count - 1)
    assert queues.held == (count - 1 if answer is Answer.GRANTED else 0)


async def test_cancelled_waiter_is_in_no_cycle(queues: Queues) -> None:
    """Who is being cancelled waits for nobody, though it has not left yet."""
    first, second = Holder(), Holder()
    queues.take("1", first)
    queues.take("2", second)
    (cancelled,) = await line_up(queues, first, key="2")
    waits = asyncio.create_task(queues.wait("1", second, None))
    cancelled.cancel()
    await tick()
    queues.release("1", first)
    assert await waits is Answer.GRANTED


async def test_cancelled_waiter_leaves_the_key_with_its_holder(queues: Queues) -> None:
    """A cancelled wait changes nothing for the others, even if it was in a limit."""
    holder, cancelled, waiting = Holder(), Holder(), Holder()
    queues.take("k", holder)
    tasks = await line_up(queues, cancelled, waiting, limit=30)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    assert (queues.waiting, queues.holds(holder, "k")) == (1, True)
    queues.release("k", holder)
    assert await tasks[1] is Answer.GRANTED


async def test_cancelled_waiter_gives_back_no_more_than_it_got(queues: Queues) -> None:
    """A call cancelled after FOUND does not release what its owner has taken since."""
    holder, owner = Holder(), Holder()
    queues.take("k", holder)
    (task,) = await line_up(queues, owner)
    queues.release("k", holder, Answer.FOUND)
    assert queues.take("k", owner)  # another call of the same owner
    task.cancel()
    await asyncio.wait([task])
    assert queues.holds(owner, "k")


async def test_other_threads_go_through_the_loop(queues: Queues) -> None:
    """A call runs in the loop's thread: at once in it, soon from any other."""
    threads: list[int] = []

    def note(number: int) -> None:
        threads.extend([number, get_ident()])

    async def run() -> None:
        queues.run(note, 2)

    queues.run(note, 0)
    assert threads == [0, get_ident()]
    await asyncio.to_thread(queues.run, note, 1)
    await asyncio.to_thread(asyncio.run, run())
    assert threads == [0, get_ident(), 1, get_ident(), 2, get_ident()]


def test_ended_loop_is_left_alone() -> None:
    """Nothing is called any more in a loop that is closed, nor in one that is gone."""
    loop = asyncio.new_event_loop()
    queues = Queues(loop, 1, Counts())
    assert not queues.is_closed()
    loop.close()
    assert queues.is_closed()
    queues.run(pytest.fail, "called")
    del loop
    gc.collect()
    assert queues.is_closed()
    queues.run_soon(pytest.fail, "called")


def test_memory_is_bounded() -> None:
    """The oldest keys are forgotten; of those, nothing is known but when, at most."""
    memory, before = Memory(2), perf_counter()
    after = before + 60
    assert not memory.has_changed("a", before)
    for key in ("a", "b", "a", "c"):
        memory.add(key, exists=True)
    assert [memory.exists(key) for key in "abcd"] == [True, False, True, False]
    assert all(memory.has_changed(key, before) for key in "abcd")
    assert not any(memory.has_changed(key, after) for key in "abcd")
    for key in "ad":
        memory.forget(key)
    assert [memory.exists(key) for key in "acd"] == [False, True, False]
    assert memory.has_changed("a", before)
    memory.add("c", exists=False)
    assert not memory.exists("c")


async def test_memory_of_nothing() -> None:
    """With no keys known each may exist, and may have changed since any release."""
    queues, owner, before = KeyedLocks(0).queues(), Holder(), perf_counter()
    queues.take("k", owner)
    queues.release("k", owner, Answer.CREATED)
    assert not queues.memory.exists("k")
    assert queues.memory.has_changed("another", before)
    assert not queues.memory.has_changed("k", before + 60)
    with pytest.raises(ValueError, match="known_keys is -1; give 0"):
        KeyedLocks(-1)


def test_statistics_of_several_loops() -> None:
    """What happened is added up; what is held and waits, over the open loops only."""
    locks = KeyedLocks()

    def figures() -> dict[str, int]:
        return {name: n for name, n in asdict(locks.statistics()).items() if n}

    async def use() -> None:
        assert locks.queues() is locks.queues()
        locks.queues().take("k", Holder())
        await line_up(locks.queues(), Holder())

    assert figures() == {}
    with asyncio.Runner() as first:
        first.run(use())
        with asyncio.Runner() as second:
            second.run(use())
            assert figures() == {"held": 2, "waiting": 2, "acquired": 2, "waited": 2}
        assert figures() == {"held": 1, "waiting": 1, "acquired": 2, "waited": 2}
    assert figures() == {"acquired": 2, "waited": 2}


@pytest.mark.parametrize("is_contended", [False, True])
def test_queues_go_with_their_loop(*, is_contended: bool) -> None:
    """Loops that come and go leave nothing behind, though keys were held to the end."""
    locks = KeyedLocks()

    async def use() -> list[ref[object]]:
        queues, holder, owner = locks.queues(), Holder(), Holder()
        queues.take("k", holder)
        queues.take("kept", holder)
        if is_contended:
            (task,) = await line_up(queues, owner)
            queues.release("k", holder)
            assert await task is Answer.GRANTED
        return [ref(asyncio.get_running_loop()), ref(queues), ref(holder), ref(owner)]

    left = [each for _ in range(20) for each in asyncio.run(use())]
    gc.collect()
    assert not [each() for each in left if each() is not None]


def test_loop_closed_in_the_middle_of_a_wait_goes_with_the_next() -> None:
    """A loop that ends with somebody waiting is forgotten when another one begins."""
    locks = KeyedLocks()

    async def use() -> None:
        locks.queues().take("k", Holder())
        await line_up(locks.queues(), Holder(), limit=30)

    left = []
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # the task has not been cancelled
        loop.run_until_complete(use())
        loop.close()
        left.append(ref(loop))
    gc.collect()
    assert [each() for each in left] == [None, None, loop]
