"""Interrupt a coroutine at an exact place: where it is suspended for the k-th time."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

import anyio
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from waiting import until

from async_goc import KeyedLocks

T = TypeVar("T")


class Steps(Awaitable[T]):
    """*work*, driven step by step; *interrupt* is called at the places *at*.

    Args:
        work: What to run.
        interrupt: Cancels it, say.
        at: At which suspensions to interrupt; the first one is 1.
        is_late: Not when it is suspended, but in the very tick in which that for which
            it waits has come: it has happened, and *work* does not learn of it.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        interrupt: Callable[[], object],
        *at: int,
        is_late: bool = False,
    ) -> None:
        self.work = work
        self.interrupt = interrupt
        self.at = set(at)
        self.is_late = is_late
        self.count = 0

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self.work.__await__()
        step = partial(steps.send, None)
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.is_late and waits_for is not None:
                # Sooner than the task adds the callback that resumes it.
                waits_for.add_done_callback(partial(self._arrive, self.count))
            else:
                self._arrive(self.count)
            try:
                step = partial(steps.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001
                step = partial(steps.throw, error)

    def _arrive(self, place: int, _: object = None) -> None:
        if place in self.at:
            self.interrupt()


class Held(Awaitable[T]):
    """*work*, which does *meanwhile* before it goes on after its k-th suspension.

    That for which it was suspended has happened by then, but *work* does not know yet.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        meanwhile: Callable[[], Awaitable[object]],
        k: int,
    ) -> None:
        self.work = work
        self.meanwhile = meanwhile
        self.k = k
        self.count = 0

    def __await__(self) -> Generator[Any, Any, T]:
        steps, sent = self.work.__await__(), None
        while True:
            try:
                waits_for = steps.send(sent)
            except StopIteration as end:
                return end.value
            self.count += 1
            sent = yield waits_for
            if self.count == self.k:
                yield from self.meanwhile().__await__()


Way = Callable[[Coroutine[Any, Any, object], int], Awaitable[bool]]


async def cancel(
    work: Coroutine[Any, Any, object], k: int, *, is_late: bool = False
) -> bool:
    """Run *work*, cancelled at its k-th suspension; say whether it got so far."""
    task = asyncio.current_task()
    assert task is not None
    steps = Steps(work, task.cancel, k, is_late=is_late)
    try:
        await steps
    except asyncio.CancelledError:
        task.uncancel()
        return True
    assert steps.count < k, "the cancellation has been swallowed"
    return False


async def cancel_late(work: Coroutine[Any, Any, object], k: int) -> bool:
    """The same, in the tick in which *work* would have gone on."""
    return await cancel(work, k, is_late=True)


async def cancel_scope(work: Coroutine[Any, Any, object], k: int) -> bool:
    """The same with a scope of anyio's, which goes on cancelling until it is left."""
    with anyio.CancelScope() as scope:
        steps = Steps(work, scope.cancel, k)
        await steps
    assert scope.cancelled_caught is (steps.count >= k)
    return scope.cancelled_caught


async def rest(engine: AsyncEngine, locks: KeyedLocks) -> None:
    """Wait until nothing is held, waited for or checked out."""
    queues = locks.queues()
    pool: Any = engine.pool

    def rests() -> bool:
        return not queues.held and not queues.waiting and pool.checkedout() == 0

    await until(rests, limit=5)


def cheap_collections() -> None:
    """Let the garbage collector look at what is made from now on, and nothing else."""
    gc.collect()
    gc.freeze()


async def collect(engine: AsyncEngine) -> None:
    """Collect what a cancelled transaction leaves to the garbage collector on SQLite.

    A SELECT cancelled there locks the file as long as its cursor exists, although
    SQLAlchemy closes the connection. It is so without get_or_create(), too.
    """
    if engine.dialect.name == "sqlite":
        for _ in range(3):  # for the tasks, and the threads, that close connections
            await asyncio.sleep(0)
            gc.collect()


def state(engine: AsyncEngine, session: AsyncSession) -> tuple[object, ...]:
    """What cancelling a waiter must not change."""
    pool: Any = engine.pool
    return (
        session.in_transaction(),
        dict(session.identity_map),
        set(session.new),
        pool.checkedout(),
    )
