"""Owners that outrank others, die, or wait in a circle."""

import asyncio

import pytest
from owners import Holder, Task, line_up, tick

from async_goc._locks import sweeper
from async_goc._locks.owner import Answer
from async_goc._locks.queues import Queues


async def test_owners_around_count_as_oneself(queues: Queues) -> None:
    """No call waits for an owner that cannot go on before that wait ends."""
    around, other, asks = Holder(), Holder(), Holder()
    queues.take("k", around)
    queues.take("other", other)
    assert await queues.wait("k", asks, None, around=[around]) is Answer.DEADLOCK
    (task,) = await line_up(queues, other)
    assert await queues.wait("other", asks, None, around=[around]) is Answer.DEADLOCK
    assert await task is Answer.DEADLOCK
    assert queues.counts.deadlocks_avoided == 3


@pytest.mark.parametrize("size", [2, 3])
async def test_cycle_ends_for_all_its_members(queues: Queues, size: int) -> None:
    """Owners that wait for each other all stop; one that waits for them does not."""
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
    assert (("k" in high.keys), task.done()) == (True, False)
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
        (holder,) = [owner for owner in others if ("k" in owner.keys)]
        order.append(others.index(holder))
    assert order == [2, 4, 1, 3, 0]
    assert await asyncio.gather(*tasks) == [Answer.GRANTED] * 5


async def test_dead_owner_loses_all_its_keys(queues: Queues) -> None:
    """Waiting for one key of a dead owner frees its other keys, too."""
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
    """An owner that looks dead for a moment is asked twice.

    A transaction is no longer its session's while its connection is being reset.
    """
    ending, waiting = Holder(), Holder()
    queues.take("k", ending)
    ending.is_well = False
    (task,) = await line_up(queues, waiting)
    assert "k" in ending.keys
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


async def test_holder_that_stays_in_a_statement(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiters with a connection, which it may wait for in the database, go on.

    Fails without `_end_hidden_cycles` in `Sweeper._sweep`.
    """
    monkeypatch.setattr(sweeper, "STATEMENT", 0)
    blocked, between = Holder(1), Holder(1)
    plain, connected, behind = Holder(), Holder(1), Holder(1)
    queues.take("k", blocked)
    queues.take("other", between)
    plain_waits, waits = await line_up(queues, plain, connected)
    chained, last = (
        await line_up(queues, between),
        await line_up(queues, behind, key="other"),
    )
    blocked.is_busy = True
    answers = await asyncio.gather(waits, *chained, *last)
    assert answers == [Answer.DEADLOCK] * 3
    assert not plain_waits.done()
    queues.release("k", blocked)
    assert await plain_waits is Answer.GRANTED
    assert queues.counts.deadlocks_avoided == 3
