"""Calls that begin together."""

import asyncio
import sys
from typing import Any

import pytest

from async_goc.testing import race


async def test_results_and_exceptions_in_order() -> None:
    """Each call has its place, whether it returns, raises or is cancelled."""
    numbers = iter(range(4))

    async def call() -> int:
        number = next(numbers)
        if number == 1:
            msg = "one"
            raise LookupError(msg)
        if number == 2:
            raise asyncio.CancelledError
        await asyncio.sleep(0)
        return number

    zero, one, two, three = await race(call, 4)
    assert (zero, three) == (0, 3)
    assert isinstance(one, LookupError)
    assert isinstance(two, asyncio.CancelledError)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks never start eagerly")
async def test_none_begins_before_the_others_can() -> None:
    """Tasks that start eagerly, as a loop's factory may make them, wait for the last.

    Fails without `may_begin` in `race`.
    """
    loop = asyncio.get_running_loop()

    async def call() -> int:
        return len(asyncio.all_tasks())

    others, before = len(asyncio.all_tasks()), loop.get_task_factory()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))
    try:
        counts = await race(call, n=5)
    finally:
        loop.set_task_factory(before)
    # All five were there when the first one began.
    assert max(map(int, counts)) == others + 5


async def test_cancelling_cancels_all() -> None:
    """The race ends when all calls have, and each has cleaned up."""
    started, ended = asyncio.Semaphore(0), list[str]()

    async def call() -> None:
        started.release()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    task = asyncio.create_task(race(call, n=3))
    for _ in range(3):
        await started.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["ended"] * 3


async def test_wrong_arguments() -> None:
    """They are refused before anything starts."""

    async def call() -> None: ...

    wrong: Any = call()
    with pytest.raises(TypeError, match="call is of type coroutine; give a coroutine"):
        await race(wrong)
    not_even: Any = 5
    with pytest.raises(TypeError, match="call is of type int"):
        await race(not_even)
    with pytest.raises(ValueError, match="n is 0"):
        await race(call, n=0)
