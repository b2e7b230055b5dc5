"""The registry alone: which owner gets a key, when, and what waiters are told."""

import asyncio
from time import perf_counter

import pytest
from owners import Holder, line_up, tick
from waiting import Clock

from async_goc._locks.owner import Answer
from async_goc._locks.queues import Queues


async def test_free_key_is_granted_again_and_again(queues: Queues) -> None:
    """A free key needs no waiting, nor does one that the owner already has."""
    owner, other = Holder(), Holder()
    assert queues.take("k", owner)
    assert queues.take("k", owner)
    assert (("k" in owner.keys), ("k" in other.keys)) == (True, False)
    assert (queues.held, queues.counts.acquired, [*owner.keys]) == (1, 1, ["k"])
    queues.release("k", owner)
    assert (queues.held, ("k" in owner.keys), owner.keys) == (0, False, {})


async def test_absent_row_hands_the_key_to_the_first(queues: Queues) -> None:
    """Without a row the key goes to one after the other, in order of arrival."""
    holder, *others = [Holder() for _ in range(4)]
    queues.take("k", holder)
    tasks = await line_up(queues, *others)
    assert (queues.waiting, queues.counts.waited) == (3, 3)
    for owner, task in zip(others, tasks, strict=True):
        queues.release("k", holder)
        assert "k" in owner.keys
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
async def test_time_runs_out_for_the_first_in_line(
    queues: Queues, limit: float
) -> None:
    """When it does, the first asks the database; the others wait for either to end."""
    holder, *others = [Holder() for _ in range(4)]
    queues.take("k", holder)
    first, *rest = await line_up(queues, *others, limit=limit)
    assert await first is Answer.TIMEOUT
    for _ in range(9):
        await tick()
    assert not any(task.done() for task in rest)
    assert (queues.held, queues.counts.timeouts) == (1, 1)
    queues.release("k", others[0], Answer.FOUND)
    assert await asyncio.gather(*rest) == [Answer.FOUND] * 2
    assert [*holder.keys] == ["k"]
    queues.release("k", holder)
    assert (queues.held, queues._lines) == (0, {})


async def test_scout_that_fails_is_replaced_at_once(queues: Queues) -> None:
    """The time of the holder is over, so the next in line need not wait for it again.

    Fails without `_arrange` in `Queues.release`.
    """
    holder, *others = [Holder() for _ in range(4)]
    queues.take("k", holder)
    tasks = await line_up(queues, *others, limit=0.05)
    async with asyncio.timeout(5):
        for owner, task in zip(others, tasks, strict=True):
            assert await task is Answer.TIMEOUT
            queues.release("k", owner)
    assert queues.counts.timeouts == 3
    queues.release("k", holder)


async def test_scout_that_creates_is_waited_for(queues: Queues) -> None:
    """It takes the key over, and its time begins when the former holder has ended."""
    holder, scout, waiting, patient = [Holder() for _ in range(4)]
    queues.take("k", holder)
    tasks = await line_up(queues, scout, waiting, limit=0.01)
    tasks += await line_up(queues, patient)
    assert await tasks[0] is Answer.TIMEOUT
    assert queues.take("k", scout)
    assert ([*holder.keys], [*scout.keys]) == (["k"], ["k"])
    # The former holder is in the database as well, and one such is enough.
    queues.release("k", holder)
    assert holder.keys == {}
    assert await tasks[1] is Answer.TIMEOUT
    queues.release("k", waiting)
    queues.release("k", scout, Answer.CREATED)
    assert await tasks[2] is Answer.CREATED


async def test_scout_has_the_key_when_the_holder_fails(queues: Queues) -> None:
    """A key that becomes free goes to the scout, which is at its INSERT already."""
    holder, scout, waiting = [Holder() for _ in range(3)]
    queues.take("k", holder)
    tasks = await line_up(queues, scout, waiting, limit=0)
    assert await tasks[0] is Answer.TIMEOUT
    queues.release("k", holder)
    assert [*scout.keys] == ["k"]
    assert await tasks[1] is Answer.TIMEOUT
    queues.release("k", waiting)
    queues.release("k", scout)
    assert queues.held == 0


async def test_scout_without_a_connection_has_no_precedence(queues: Queues) -> None:
    """A waiter that holds a connection comes first: the scout may wait for that one."""
    holder, scout, waiting = Holder(), Holder(), Holder(1)
    queues.take("k", holder)
    (asked,) = await line_up(queues, scout, limit=0)
    assert await asked is Answer.TIMEOUT
    holder.level = 1
    (task,) = await line_up(queues, waiting)
    queues.release("k", holder)
    assert await task is Answer.GRANTED
    queues.release("k", waiting, Answer.CREATED)
    assert [*scout.keys] == ["k"]
    queues.release("k", scout)


async def test_time_in_another_line_does_not_count(queues: Queues) -> None:
    """Whatever asked the database meanwhile would only stand behind the holder.

    Fails without `is_in_line` in `Queues._send_scout`.
    """
    holder, waiting = Holder(), Holder()
    holder.stands_in_line = True
    queues.take("k", holder)
    (task,) = await line_up(queues, waiting, limit=0)
    for _ in range(9):
        await tick()
    assert not task.done()
    holder.stands_in_line = False
    assert await task is Answer.TIMEOUT
    queues.release("k", waiting)
    queues.release("k", holder)


async def test_a_holder_is_overdue_only_once(queues: Queues) -> None:
    """A holder of many keys is told of once, and has no more time for the others."""
    holder, *others = [Holder() for _ in range(5)]
    told: list[float] = []
    for key in "abcd":
        queues.take(key, holder)
    for key, owner, limit in zip("abcd", others, (0.01, 99, 99, 99), strict=True):
        async with asyncio.timeout(10):
            wait = queues.wait(key, owner, limit, on_timeout=told.append)
            assert await wait is Answer.TIMEOUT
        queues.release(key, owner)
    assert (len(told), queues.counts.timeouts) == (1, 4)
    for key in "abcd":
        queues.release(key, holder)
    assert queues.take("a", holder)
    assert await queues.wait("a", others[0], 0, on_timeout=told.append)
    assert len(told) == 2


async def test_scouts_of_one_holder_go_one_by_one(queues: Queues) -> None:
    """One that holds many keys sends no more of the pool than one that holds one.

    Those that have a connection need no more of it. Fails without `has_scout` in
    `Queues._send_scout`.
    """
    holder, first, second, connected = Holder(1), Holder(), Holder(), Holder(1)
    for key in "abc":
        queues.take(key, holder)
    (asks,) = await line_up(queues, first, key="a", limit=0)
    assert await asks is Answer.TIMEOUT
    (waits,) = await line_up(queues, second, key="b", limit=0)
    assert await queues.wait("c", connected, 0) is Answer.TIMEOUT
    for _ in range(9):
        await tick()
    assert not waits.done()
    queues.release("c", connected)
    queues.release("a", first)
    assert await waits is Answer.TIMEOUT
    queues.release("b", second)
    queues.reclaim(holder)


async def test_those_without_a_limit_are_passed_by(queues: Queues) -> None:
    """The first in line that has a limit goes, whatever stands before it."""
    holder, *patient, brief = [Holder() for _ in range(4)]
    queues.take("k", holder)
    tasks = await line_up(queues, *patient)
    assert await queues.wait("k", brief, 0.01) is Answer.TIMEOUT
    queues.release("k", brief, Answer.CREATED)
    assert await asyncio.gather(*tasks) == [Answer.CREATED] * 2


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
    assert (("k" in owner.keys), queues.counts.timeouts) == (True, 0)


async def test_release_is_harmless_twice(queues: Queues) -> None:
    """Only the first release counts, though another owner has the key by then."""
    first, second, third = Holder(), Holder(), Holder()
    queues.take("k", first)
    tasks = await line_up(queues, second, third)
    queues.release("k", first)
    queues.release("k", first, Answer.CREATED)
    queues.release("unknown", first)
    assert await tasks[0] is Answer.GRANTED
    assert (("k" in second.keys), tasks[1].done()) == (True, False)
    queues.release("k", second, Answer.CREATED)
    queues.release("k", second)
    assert await tasks[1] is Answer.CREATED
    assert (queues.memory.exists("k"), queues.memory.exists("unknown")) == (True, False)


async def test_the_limit_starts_anew_with_each_holder(
    queues: Queues, clock: Clock
) -> None:
    """Whoever still waits when the key passes on gives the next holder as long.

    Fails without `since` in `Queues._give`.
    """
    first, *others = Holder(), Holder(), Holder()
    assert queues.take("k", first)
    granted, asking = await line_up(queues, *others, limit=10)
    clock.now += 8
    queues.release("k", first)
    assert await granted is Answer.GRANTED
    # It has waited for longer than its limit, but not for this holder.
    clock.now += 8
    for _ in range(9):
        await tick()
    assert not asking.done()
    clock.now += 8
    assert await asking is Answer.TIMEOUT
