"""One registry for all event loops and threads, and what it remembers."""

import asyncio
import gc
from dataclasses import asdict
from threading import get_ident
from time import perf_counter
from weakref import ref

import pytest
from owners import Holder, line_up

from async_goc._locks.memory import Memory
from async_goc._locks.owner import Answer
from async_goc._locks.queues import Queues
from async_goc._locks.registry import KeyedLocks
from async_goc._locks.statistics import Counts


async def test_other_threads_go_through_the_loop(queues: Queues) -> None:
    """A call runs in the loop's thread: at once in it, soon from any other."""
    threads: list[int] = []

    def note(number: int) -> None:
        threads.extend([number, get_ident()])

    async def run() -> None:
        queues.home.run(note, 2)

    queues.home.run(note, 0)
    assert threads == [0, get_ident()]
    await asyncio.to_thread(queues.home.run, note, 1)
    await asyncio.to_thread(asyncio.run, run())
    assert threads == [0, get_ident(), 1, get_ident(), 2, get_ident()]


def test_ended_loop_is_left_alone() -> None:
    """Nothing is called any more in a loop that is closed, nor in one that is gone."""
    loop = asyncio.new_event_loop()
    queues = Queues(loop, 1, Counts())
    assert not queues.home.is_closed()
    loop.close()
    assert queues.home.is_closed()
    queues.home.run(pytest.fail, "called")
    del loop
    gc.collect()
    assert queues.home.is_closed()
    queues.home.run_soon(pytest.fail, "called")


def test_memory_is_bounded() -> None:
    """The oldest keys are forgotten, except for when the last of them was released."""
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


def test_rows_that_are_not_there_are_soon_forgotten() -> None:
    """Calls that failed leave next to nothing, and what is known stays known.

    Only when the key was released is remembered, as a call that was looking at that
    moment has to look again. Fails without `_keep_absent` in `Memory.add`.
    """
    memory = Memory(1_000)
    memory.add("there", exists=True)
    before, keys = perf_counter(), [f"refused {number}" for number in range(2_000)]
    for key in keys:
        memory.add(key, exists=False)
    assert memory.exists("there")
    assert not memory.has_changed("there", before)
    assert len(memory) == 1
    assert len(memory._absent) <= 100
    assert all(memory.has_changed(key, before) for key in keys)
    after = perf_counter()
    assert not any(memory.has_changed(key, after) for key in [*keys, "there"])
    # What was forgotten counts as the newest of them, and no later.
    memory.forget("there")
    assert not memory.exists("there")
    assert memory.has_changed("there", float("-inf"))
    memory.add(keys[0], exists=True)
    assert memory.exists(keys[0])
    assert keys[0] not in memory._absent


async def test_many_keys_at_once() -> None:
    """They are taken and given back at once, and push nothing out of the memory.

    Fails without `_crowded` in `Memory.add_all`, and in `Memory.has_changed`; and
    without `owner` in `Holders._drop_all`.
    """
    queues, owner, other = KeyedLocks(100).queues(), Holder(), Holder()
    queues.take("known", other)
    queues.release("known", other, Answer.CREATED)
    before, many = perf_counter(), [f"key {number}" for number in range(1_000)]
    assert queues.take_all(many, owner)
    assert not queues.take_all(["free", many[0]], other)
    assert (queues.held, queues.counts.acquired) == (1_000, 1_001)
    assert queues.not_held(["free", *many], owner) == ["free"]
    queues.take("another's", other)
    queues.release_all([*many, "another's", "free"], owner, Answer.CREATED)
    assert (queues.holders, owner.keys) == ({"another's": other}, {})
    memory = queues.memory
    assert memory.exists("known")
    assert not any(map(memory.exists, many))
    # Each may be one of them, and so is looked for once more.
    assert memory.have_changed([many[0]], before)
    assert memory.have_changed(["known"], before)
    assert not memory.have_changed(many, perf_counter())
    # A few are remembered as one is.
    assert queues.take_all(many[:3], owner)
    queues.release_all(many[:3], owner, Answer.FOUND)
    assert all(map(memory.exists, ["known", *many[:3]]))
    memory.forget_all(["known", many[0], "unknown"])
    assert [memory.exists(key) for key in ("known", *many[:2])] == [False, False, True]


async def test_many_keys_of_which_one_is_waited_for() -> None:
    """What waits for one of them is told, as by a release of that one alone."""
    queues, owner, other = KeyedLocks(100).queues(), Holder(), Holder()
    many = [f"key {number}" for number in range(1_000)]
    assert queues.take_all(["k", *many], owner)
    (task,) = await line_up(queues, other)
    queues.release_all(["k", *many], owner, Answer.CREATED)
    assert await task is Answer.CREATED
    assert queues.held == 0


async def test_memory_of_nothing() -> None:
    """If no keys are known, any may exist, and may have changed since a release."""
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
    """A loop that ends while a call waits is forgotten when another one begins."""
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
