"""A waiter that is cancelled takes nothing from the others."""

import asyncio

import pytest
from owners import Holder, line_up, tick
from waiting import Clock

from async_goc._locks.owner import Answer
from async_goc._locks.queues import Queues


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
    """A waiter that is being cancelled closes no cycle, though it has not left yet."""
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
    assert (queues.waiting, ("k" in holder.keys)) == (1, True)
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
    assert "k" in owner.keys


async def test_waiter_that_is_cancelled_as_its_time_runs_out(
    queues: Queues, clock: Clock
) -> None:
    """It is not sent to the database, and the next one is.

    Fails without `is_live` in `Queues._send_scout`.
    """
    holder, cancelled, waiting = Holder(), Holder(), Holder()
    queues.take("k", holder)
    first, second = await line_up(queues, cancelled, waiting, limit=10)
    # Timers that are due at once run in the order of their times.
    asyncio.get_running_loop().call_at(clock.now + 9, first.cancel)
    clock.now += 11
    for _ in range(9):
        await tick()
    assert first.cancelled()
    assert second.result() is Answer.TIMEOUT
    assert (queues.counts.timeouts, [*cancelled.keys]) == (1, [])
    queues.release("k", waiting)
    queues.release("k", holder)
