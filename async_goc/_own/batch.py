"""Answer concurrent calls for different rows by one set of statements."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .._call import Outcome, check_number
from .asks import Ask
from .direct import Kind
from .flights import Flight, Signal, depart

# A call that finds nothing under way asks at once, by itself; unless the last batch was
# one of several calls, for then others may come in this turn of the event loop. What
# comes while a call waits is queued, and one task takes from the queue as much as fits
# into a batch, again and again until it is empty: the busier the database, the larger
# the batches, without a timer. More such tasks made nothing faster. Calls of one queue
# have the model and the names of the lookup in common, and so the statements.

# How many batches may wait in the queue, before calls wait to get into it.
_QUEUED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How a :class:`GetOrCreator` gathers concurrent calls for different rows.

    Attributes:
        max_size: How many rows one set of statements asks for at most.
        max_delay: Seconds for which the first call of a batch waits for others. With 0,
            the default, no call waits for calls that may not come: a batch is what has
            been asked for while the one before was on its way.

    Raises:
        ValueError: A value is out of its range.
        TypeError: A value is of the wrong type.
    """

    max_size: int = 500
    max_delay: float = 0.0

    def __post_init__(self) -> None:
        check_number("max_size", self.max_size, int, 1, "a number of rows, at least 1")
        seconds = "seconds, 0 or more"
        check_number("max_delay", self.max_delay, (int, float), 0, seconds)


# What a call asks for, and what has its answer.
Queued: TypeAlias = tuple[Ask, Flight]


class Queue:
    """The calls for one kind of lookup that wait for the next batch."""

    def __init__(
        self, kind: Kind[Any], batch: Batch, lock_timeout: float | None
    ) -> None:
        self._kind, self._batch = kind, batch
        # Seconds that a batch may wait for the uncommitted row of a rival.
        self._lock_timeout = lock_timeout
        self._waiting = deque[Queued]()
        # How many calls ask by themselves.
        self.alone = 0
        # Whether the last batch was one of several calls: then more may come at once.
        self._had_company = False
        self._task: asyncio.Task[None] | None = None
        self._is_hurried = False
        # Set when there is enough for a batch.
        self._is_enough = asyncio.Event()
        # How many more may get in; and what waits for that, first come, first served.
        self._places = _QUEUED * batch.max_size
        self._outside = deque[asyncio.Future[None]]()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def needs_contexts(self) -> bool:
        """Whether what makes a row's defaults may ask where the call comes from."""
        return self._kind.calls_functions

    def is_used(self) -> bool:
        """Whether calls are in the queue, or ask by themselves."""
        return self.alone > 0 or self._task is not None

    def is_open(self) -> bool:
        """Whether a call is to wait for the next batch."""
        # What is in the queue is judged when it is sent. So a call that finds others
        # there need not ask whether there is a direct lane.
        return len(self._waiting) > 0 or not (
            self._is_idle() or self._kind.direct() is None
        )

    def _is_idle(self) -> bool:
        """Whether a call has nothing to wait for."""
        return not (self.is_used() or self._had_company or self._batch.max_delay)

    def hurry(self) -> None:
        """Wait for no more calls, because there will be none."""
        self._is_hurried = True
        self._is_enough.set()

    async def wait(self) -> None:
        """Wait for the end of the batch that is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def put(self, queued: Queued) -> None:
        """Queue for the next batch; wait as long as the queue is full."""
        if self._places:
            self._places -= 1
        else:
            await self._wait_for_place()
        self._waiting.append(queued)
        if len(self._waiting) >= self._batch.max_size:
            self._is_enough.set()
        if self._task is None:
            # Nothing of the call that happens to be first is the others' business.
            self._task = asyncio.get_running_loop().create_task(
                self._drain(), context=Context()
            )
            # One that is cancelled before its first step does nothing at all.
            self._task.add_done_callback(self._stop)

    async def _wait_for_place(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outside.append(place)
        try:
            await place
        except BaseException:
            # It may have got one in the turn of the loop in which it was cancelled.
            if not (place.cancel() or place.cancelled()):
                self._make_room(1)
            raise

    def _make_room(self, places: int) -> None:
        self._places += places
        while self._places and self._outside:
            place = self._outside.popleft()
            if not place.done():
                place.set_result(None)
                self._places -= 1

    async def _drain(self) -> None:
        try:
            while self._waiting:
                if self._batch.max_delay and not self._is_hurried:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._batch.max_delay):
                            await self._is_enough.wait()
                taken = self._take()
                self._had_company = len(taken) > 1
                await self._answer(taken)
        finally:
            self._stop(self._task)

    def _stop(self, task: asyncio.Task[None] | None) -> None:
        if self._task is not task:
            return
        self._task = None
        # There are some left only if the loop, or a fault, has ended the task.
        for _, flight in self._take(len(self._waiting)):
            flight.end(Signal.LEAVE_BATCH)

    def _take(self, size: int | None = None) -> list[Queued]:
        """Take the oldest asks, but for those that nobody waits for any more."""
        size = min(len(self._waiting), size or self._batch.max_size)
        taken = [self._waiting.popleft() for _ in range(size)]
        if len(self._waiting) < self._batch.max_size:
            self._is_enough.clear()
        wanted: list[Queued] = []
        for each in taken:
            flight = each[1]
            if flight.is_deserted():
                flight.end(Signal.START_OVER)
            else:
                wanted.append(each)
        self._make_room(size)
        return wanted

    async def _answer(self, queued: Sequence[Queued]) -> None:
        """Ask the database, and hand out its answers."""
        flights = [flight for _, flight in queued]
        # Since the first of them came, listeners may have come as well.
        direct = self._kind.direct()
        if direct is None:
            for flight in flights:
                flight.end(Signal.LEAVE_BATCH)
            return
        depart(flights)
        try:
            answers = await direct.find_or_insert_many(
                [ask for ask, _ in queued], lock_timeout=self._lock_timeout
            )
        except Exception as error:  # noqa: BLE001 - each call raises it
            for flight in flights:
                flight.fail(error)
            return
        except BaseException:
            for flight in flights:
                flight.end(Signal.LEAVE_BATCH)
            raise
        for flight, answer in zip(flights, answers, strict=True):
            if answer is None:
                flight.end(Signal.LEAVE_BATCH)
            elif isinstance(answer, Exception):
                flight.fail(answer)
            else:
                row, is_created = answer
                outcome = Outcome.CREATED if is_created else Outcome.HIT
                flight.land(direct, row, outcome, is_leaders=False)
