"""Stand in line for one key."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import chain, count

from .owner import Answer, Owner


@dataclass(slots=True, eq=False)
class Waiter:
    """An owner's place in the line for a key."""

    key: Hashable
    owner: Owner
    # The owner's rank, taken once: a session does nothing else while it waits.
    rank: int
    # Seconds that one holder may keep the key; and what is told when they are over.
    limit: float | None
    on_timeout: Callable[[float], object] | None
    answer: asyncio.Future[Answer]
    # Its turn among all that have come.
    number: int = 0

    @property
    def is_live(self) -> bool:
        """Whether it still waits: neither answered nor cancelled."""
        return not self.answer.done()

    def has_answer(self, *answers: Answer) -> bool:
        """Whether this is its answer, even if it is cancelled before it reads it."""
        future = self.answer
        return future.done() and not future.cancelled() and future.result() in answers


# A holder that keeps the others waiting for too long is not waited for by all of them.
# When all left the line together, one slow creator emptied the connection pool: of 30
# requests, 21 got no connection. So the first in line goes to the database as a scout,
# and the others wait for whichever of the two ends first. A scout that creates the row
# takes the key over, and the holder is the scout then, because it is about to meet that
# row in the database. A scout that fails is replaced by the next in line.
#
# Waiters that hold a connection need no more of the pool. And as long as they wait
# here, the holder may wait in the database for what one of them has locked there. So
# all of them stop waiting when the holder has kept the key for too long.


class Line:
    """The waiters for one key.

    The first in line is the one that arrived first of those with the highest rank.
    """

    def __init__(self, key: Hashable, since: float) -> None:
        self.key: Hashable = key
        # When the present holder began to keep others waiting, by the loop's clock.
        self.since = since
        # The earliest time to look again whether a scout can be sent.
        self.again: float = 0.0
        # What has gone to the database without the key, while the others wait.
        self.scout: Owner | None = None
        # The first in line that has a limit, and the timer that sends it.
        self.next_scout: Waiter | None = None
        self.timer: asyncio.TimerHandle | None = None
        # {(rank, whether it has a limit): its waiters, in order of arrival}. A plain
        # dict finds its first item by walking past all that were deleted before it.
        self._places: dict[tuple[int, bool], OrderedDict[Waiter, None]] = {}
        self._numbers = count()

    def __iter__(self) -> Iterator[Waiter]:
        # A copy, because waiters leave as they are told.
        return iter(list(chain(*self._places.values())))

    @property
    def is_empty(self) -> bool:
        """Whether no waiter stands in it."""
        return not self._places

    def add(self, waiter: Waiter) -> None:
        waiter.number = next(self._numbers)
        place = waiter.rank, waiter.limit is not None
        self._places.setdefault(place, OrderedDict())[waiter] = None

    def remove(self, waiter: Waiter) -> None:
        place = waiter.rank, waiter.limit is not None
        self._places[place].pop(waiter, None)
        if not self._places[place]:
            del self._places[place]

    def first(self, *, has_limit: bool = False) -> Waiter | None:
        """Return the first in line, or the first of those that have a limit."""
        live = (
            next((waiter for waiter in waiters if waiter.is_live), None)
            for place, waiters in self._places.items()
            if place[1] or not has_limit
        )
        found = filter(None, live)
        return min(
            found, key=lambda waiter: (-waiter.rank, waiter.number), default=None
        )

    def next_to_ask(self) -> Waiter | None:
        """Return the first in line that has a limit, if it may ask the database."""
        first = self.first(has_limit=True)
        # Of those without a connection, one at a time.
        is_next = first is not None and (first.rank or self.scout is None)
        return first if is_next else None

    def connected(self, *, has_limit: bool = False) -> list[Waiter]:
        """Return the waiters whose owners hold a connection."""
        places = [
            waiters
            for (rank, is_limited), waiters in self._places.items()
            if rank and (is_limited or not has_limit)
        ]
        return [waiter for waiter in chain(*places) if waiter.is_live]
