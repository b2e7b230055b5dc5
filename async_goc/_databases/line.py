"""Stand in line for SQLite's one writer, within one event loop."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from logging import getLogger
from typing import Any, Final
from weakref import ref

from sqlalchemy import PoolProxiedConnection

_log: Final = getLogger("async_goc")
# Seconds between two looks at what holds the lock while others wait for it.
_SWEEP: Final = 0.05


# SQLite has one writer. A connection that comes second is left to its busy handler,
# which polls, knows no order, and gives up after a while: the more connections, the
# sooner one of them meets "database is locked" although all the others make progress.
# So the transactions of one event loop stand in line for the writer's lock before they
# ask SQLite for it. What another loop or process does, SQLite still decides.
#
# Nothing announces every end of a transaction: its connection may be invalidated,
# collected, or sent a COMMIT as text. So an end is never reported here. Whatever may be
# one (a COMMIT, a ROLLBACK, a connection that returns to its pool) only asks whether
# the holder still is in a transaction, and the driver answers. A sweep asks the same
# as long as something waits, for the ends that nothing announces.
#
# The line is an adviser. When a holder keeps the lock for too long, all that wait go to
# SQLite, and get its honest answer. One each time would not do: a holder that waits, by
# way of another task, for the last in line would first fail all that stand before it.


class Hold:
    """A transaction's place in line, and then its hold on the lock."""

    __slots__ = ("_connection", "has_begun", "is_overdue", "is_suspect", "since")

    def __init__(
        self, connection: PoolProxiedConnection, on_collected: Callable[[Any], None]
    ) -> None:
        # Weak, because tasks that begin inside the transaction refer to its hold.
        self._connection: ref[PoolProxiedConnection] | None
        self._connection = ref(connection, on_collected)
        # Before its BEGIN has run, the driver is not in a transaction yet.
        self.has_begun = False
        # Whether it has kept others waiting for too long.
        self.is_overdue = False
        # Whether the last sweep found that it is over.
        self.is_suspect = False
        # The loop's time when others began to wait for it.
        self.since = 0.0

    def connection(self) -> PoolProxiedConnection | None:
        """Return the connection, unless it was collected or the hold has ended."""
        return None if self._connection is None else self._connection()

    def end(self) -> None:
        self._connection = None  # Its collection is of no interest any more.

    def is_over(self) -> bool:
        """Whether the transaction has begun, and has ended."""
        connection = self.connection()
        return self.has_begun and (
            connection is None or not is_in_transaction(connection)
        )


# The holds of the transactions that this task, or the one that started it, is inside
# of. Whatever would wait for one of them would wait for itself.
_around: ContextVar[tuple[Hold, ...]] = ContextVar("async_goc_holds", default=())


class Line:
    """The line of one event loop for one engine's lock."""

    # Not for threads other than the loop's: they may only call `is_closed` and
    # `run_soon`.

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.holder: Hold | None = None
        self._loop = None if loop is None else ref(loop)
        # In order of arrival; a plain dict finds its first item by walking past all
        # that were deleted before it.
        self._waiting: OrderedDict[Hold, asyncio.Future[Hold | None]] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._limit = 0.0

    def hold_for(self, connection: PoolProxiedConnection) -> Hold:
        return Hold(connection, self._on_collected)

    def take(self, hold: Hold) -> bool:
        """Take the lock, if it is free; say whether it was."""
        if self.holder is not None:
            return False
        self.holder = hold
        return True

    def has_waiters(self) -> bool:
        return bool(self._waiting)

    def is_in_vain(self) -> bool:
        """Whether the holder waits for this task, or has kept the lock too long."""
        holder = self.holder
        return holder is not None and (holder.is_overdue or self.is_inside())

    def is_inside(self) -> bool:
        """Whether this task is inside the holder's transaction."""
        return self.holder in _around.get()

    async def wait(self, hold: Hold, limit: float) -> Hold | None:
        """Wait for the lock; return None, or the holder that *hold* goes past.

        No holder keeps the others waiting for more than *limit* seconds.
        """
        loop, self._limit = asyncio.get_running_loop(), limit
        if self.holder is not None and not self._waiting:
            self.holder.since = loop.time()
        answer: asyncio.Future[Hold | None] = loop.create_future()
        self._waiting[hold] = answer
        if self._sweeper is None:
            self._sweep_later(loop)
        try:
            return await answer
        except GeneratorExit:
            # The garbage collector closes a task at any time, in any thread.
            self.run_soon(self._leave, hold)
            raise
        except BaseException:
            self._leave(hold)
            raise

    def end(self, hold: Hold) -> None:
        """Pass the lock on, if *hold* has it."""
        if self.holder is not hold:
            return
        hold.end()
        # One that is cancelled in this tick leaves by itself.
        live = (each for each, answer in self._waiting.items() if not answer.done())
        self.holder = successor = next(live, None)
        if successor is not None:
            successor.since = asyncio.get_running_loop().time()
            self._waiting.pop(successor).set_result(None)

    def check(self) -> None:
        """Pass the lock on, if the holder's transaction has ended."""
        if self.holder is not None and self.holder.is_over():
            self.end(self.holder)

    def is_closed(self) -> bool:
        """Whether the loop is closed, so that nothing waits here any more."""
        loop = None if self._loop is None else self._loop()
        return loop is None or loop.is_closed()

    def run_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call *function* in the loop's thread, and in the middle of nothing."""
        loop = None if self._loop is None else self._loop()
        if loop is not None:
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(function, *args)

    def _on_collected(self, _: object) -> None:
        self.run_soon(self.check)

    def _leave(self, hold: Hold) -> None:
        self._waiting.pop(hold, None)
        self.end(hold)  # It may have been given the lock in the same tick.

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = loop.call_later(min(_SWEEP, self._limit), self._sweep)

    def _sweep(self) -> None:
        """Look after the holder, as long as something waits for it."""
        self._sweeper = None
        loop, holder = asyncio.get_running_loop(), self.holder
        if holder is None or not self._waiting:
            return  # A timer keeps its loop alive.
        # Only a holder that is found twice: a COMMIT as text may be followed by a BEGIN
        # as text.
        if holder.is_over() and holder.is_suspect:
            self.end(holder)
        elif loop.time() - holder.since >= self._limit:
            self._give_up(holder, loop.time() - holder.since)
        else:
            holder.is_suspect = holder.is_over()
        self._sweep_later(loop)

    def _give_up(self, holder: Hold, seconds: float) -> None:
        """Send all that wait to SQLite."""
        holder.is_overdue = True
        _log.warning(
            "a transaction of this process has kept SQLite's write lock for %.3g s "
            "(busy_timeout is %g s) while %d others waited; asking SQLite",
            *(seconds, self._limit, len(self._waiting)),
        )
        for answer in [each for each in self._waiting.values() if not each.done()]:
            answer.set_result(holder)
        self._waiting.clear()


def enter(hold: Hold) -> None:
    """Note that this task is inside the transaction of *hold*."""
    # It is never reset: a task may end its transaction in another context. A hold that
    # has ended is dropped with the next one.
    around = [each for each in _around.get() if each.connection() is not None]
    _around.set((*around, hold))


def is_in_transaction(connection: PoolProxiedConnection) -> bool:
    """Whether the driver is in a transaction."""
    adapted: Any = connection.dbapi_connection
    with suppress(ValueError):  # aiosqlite raises it for a closed connection.
        return adapted is not None and adapted.driver_connection.in_transaction
    return False
