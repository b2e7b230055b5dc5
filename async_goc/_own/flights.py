"""Let equal calls that are under way at the same time share one answer."""

import asyncio
from collections.abc import Hashable, Sequence
from copy import copy
from enum import Enum
from operator import methodcaller
from typing import Any, Final, TypeAlias

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .._call import Outcome
from ..exceptions import AsyncGocError
from .direct import Direct

# A call that finds an equal one under way does not ask the database as well, but takes
# the other one's answer. That must not be older than the call itself: between the
# other's statement and this call, this call's own task may have written to the row. So
# an answer serves those that had joined when the statement was sent, and the rest start
# over, all together. (Calls in one turn of the event loop count as simultaneous: no
# answer that a database gave after the statement was sent can have reached them. What
# blocks the loop to write, and then calls in the same turn, is the exception.)
#
# Each that waits has a future of its own, so that cancelling one touches no other. And
# whatever ends a flight without an answer wakes up all of them, so that nothing has to
# be handed over to one, which may be cancelled in the same moment.


# What the database has answered to a flight: what turns the row into instances, one for
# each call; the row; and what has become of it.
Answer: TypeAlias = tuple[Direct[Any], Any, Outcome]


class Signal(Enum):
    """What a call does whose flight has ended without an answer for it."""

    START_OVER = "start over, with all that waited"
    LEAVE_BATCH = "start over, but let no batch ask"
    GO_ALONE = "wait for no other call"


_is_done: Final = methodcaller("done")
Future: TypeAlias = "asyncio.Future[Answer | Signal | Exception]"
Flights: TypeAlias = "dict[Hashable, Flight]"


class Flight:
    """One lookup under way, for all calls that ask for the same row."""

    __slots__ = ("_flights", "_key", "served", "waiting")

    def __init__(self, flights: Flights, key: Hashable) -> None:
        self._flights, self._key = flights, key
        self.waiting: list[Future] = []
        # How many of them the statement under way serves; None: all, until the event
        # loop's next turn.
        self.served: int | None = 0
        if key is not None:
            flights[key] = self

    def join(self) -> Future:
        """Return the place of a call that waits for the answer."""
        future: Future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    def is_deserted(self) -> bool:
        """Whether every call that has joined was cancelled."""
        return all(map(_is_done, self.waiting))

    def depart(self, *, is_only_call: bool = False) -> None:
        """Note that a statement is sent, whose answer serves all that have joined."""
        # The next turn of the loop costs a call that is alone more than it can save:
        # those that join it in this turn start over, and all share the next answer.
        if is_only_call:
            self.served = len(self.waiting)
        else:
            depart([self])

    def land(
        self, direct: Direct[Any], row: Any, outcome: Outcome, *, is_leaders: bool
    ) -> None:
        """Hand out the answer; one call created the row: the leader, or the first."""
        is_created = outcome is Outcome.CREATED
        others = direct, row, Outcome.WAITED_HIT if is_created else Outcome.HIT
        answer: Answer = others if is_leaders else (direct, row, outcome)
        for future in self.waiting[: self.served]:
            if not future.done():
                future.set_result(answer)
                answer = others
        self.end(Signal.START_OVER)

    def fail(self, error: Exception) -> None:
        """Let all calls raise what became of the statement that was to serve them."""
        for future in self.waiting[: self.served]:
            if not future.done():
                future.set_result(error)
        self.end(Signal.START_OVER)

    def end(self, ending: Signal) -> None:
        """Tell all calls that still wait what to do."""
        if self._flights.get(self._key) is self:
            del self._flights[self._key]
        for future in self.waiting:
            if not future.done():
                future.set_result(ending)


def depart(flights: Sequence[Flight]) -> None:
    """Note that a statement is sent for these flights."""
    for flight in flights:
        flight.served = None
    asyncio.get_running_loop().call_soon(_close, flights)


def _close(flights: Sequence[Flight]) -> None:
    for flight in flights:
        flight.served = len(flight.waiting)


def answer_of(ending: Answer | Signal | Exception) -> Answer | Signal:
    """Return what a flight has ended with, or raise it."""
    if isinstance(ending, tuple):
        return ending  # Most have one.
    if isinstance(ending, Exception):
        # Notes and tracebacks would pile up on one that many tasks raise.
        can_be_copied = isinstance(ending, AsyncGocError | PoolTimeoutError)
        raise (copy(ending) if can_be_copied else ending) from ending.__cause__
    return ending
