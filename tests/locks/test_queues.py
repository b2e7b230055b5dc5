"""The registry alone: which owner gets a key, when, and what waiters are told."""

import asyncio
from time import perf_counter

import pytest
from owners import Holder, line_up, tick

from async_goc._locks.owner import Answer
from async_goc._locks.queues import Queues


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
    """Once the row is there, all waiters are told so in the same tick."""
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
