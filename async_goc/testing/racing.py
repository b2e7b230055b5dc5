"""Start calls together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

R = TypeVar("R")


async def race(
    call: Callable[[], Awaitable[R]], n: int = 10
) -> list[R | BaseException]:
    """Run *call* *n* times at once; return what each has returned or raised.

    Each runs in a task of its own, and none begins before all of them could. If one
    fails, or is cancelled by itself, the others go on. If this function is cancelled,
    all are, and it ends when they have.

    Each call needs a session of its own, so *call* opens one::

        async def create() -> bool:
            async with sessions.begin() as session:
                _, created = await get_or_create(session, Tag, name="python")
                return created

        results = await race(create)
        assert (results.count(True), results.count(False)) == (1, 9)

    Args:
        call: A coroutine function without arguments.
        n: How many calls there are.

    Returns:
        For each call, in the order in which they were started, what it returned, or
        the exception that it raised; :exc:`asyncio.CancelledError`, if it was
        cancelled.

    Raises:
        TypeError: *call* is no function; nothing has been started.
        ValueError: *n* is less than 1.
    """
    given: Any = call
    if not callable(given):
        if asyncio.iscoroutine(given):
            given.close()  # Nothing will await it.
        msg = (
            f"call is of type {type(given).__name__}; give a coroutine function, which "
            "is called once for each task"
        )
        raise TypeError(msg)
    if n < 1:
        msg = f"n is {n}; give a number of calls, at least 1"
        raise ValueError(msg)
    # A loop may have its tasks start eagerly, and would begin the first call before
    # there is another.
    may_begin = asyncio.Event()

    async def run() -> R:
        await may_begin.wait()
        return await call()

    tasks = [asyncio.create_task(run()) for _ in range(n)]
    may_begin.set()
    try:
        return await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()
