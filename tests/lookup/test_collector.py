"""The garbage collector rests inside a pause, and never while a task awaits."""

import asyncio
import gc
import os
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from async_goc._lookup.collector import Pause, Uncollected, _start_in_child


@pytest.fixture(autouse=True, params=[True, False], ids=["at work", "off"])
def is_at_work(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the caller has it at work."""
    before, at_work = gc.isenabled(), bool(request.param)
    (gc.enable if at_work else gc.disable)()
    yield at_work
    assert gc.isenabled() is at_work
    (gc.enable if before else gc.disable)()


async def test_never_during_an_await(*, is_at_work: bool) -> None:
    """Where the task awaits, the collector is as the caller has it.

    Fails without `Pause` in `Uncollected.send`, and in `Uncollected.throw`.
    """
    seen: list[bool] = []
    gate = asyncio.get_running_loop().create_future()

    async def steps() -> str:
        seen.append(gc.isenabled())
        try:
            await gate
        except asyncio.CancelledError:
            seen.append(gc.isenabled())
            await asyncio.sleep(0)
        seen.append(gc.isenabled())
        return "done"

    async def inner() -> str:
        return await Uncollected(steps())

    async def run() -> str:
        return await Uncollected(inner())

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    assert gc.isenabled() is is_at_work
    task.cancel()
    assert await task == "done"
    assert seen == [False, False, False]


async def test_closed_in_an_await() -> None:
    """A coroutine that is dropped in an await is closed, as any is."""
    ended: list[bool] = []

    async def steps() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(gc.isenabled())

    async def run() -> None:
        await Uncollected(steps())

    coroutine = run()
    coroutine.send(None)
    coroutine.close()
    assert ended == [False]


@pytest.mark.parametrize("is_first_out", [True, False])
def test_threads(*, is_first_out: bool) -> None:
    """In whichever order threads begin and end, it is in the end as it was."""
    inside, go_on = Event(), Event()

    def rest() -> None:
        with Pause():
            inside.set()
            go_on.wait(10)

    thread = Thread(target=rest)
    with Pause():
        thread.start()
        assert inside.wait(10)
        if is_first_out:
            go_on.set()
            thread.join()
    go_on.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork(*, is_at_work: bool) -> None:
    """A child that is forked while a thread has it paused has it at work.

    Fails without `_start_in_child`.
    """
    inside, go_on = Event(), Event()

    def rest() -> None:
        with Pause():
            inside.set()
            go_on.wait(10)

    thread = Thread(target=rest)
    thread.start()
    assert inside.wait(10)
    child = os.fork()
    if not child:
        os._exit(int(gc.isenabled()))
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == is_at_work


def test_what_a_fork_calls(*, is_at_work: bool) -> None:
    """What was paused is at work again, and what the program switched off stays so.

    Fails without `enable` in `_start_in_child`.
    """
    with Pause():
        assert not gc.isenabled()
        _start_in_child()
        assert gc.isenabled() is is_at_work
    _start_in_child()
    assert gc.isenabled() is is_at_work
