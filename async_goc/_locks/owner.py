"""Say what may hold a key, and what waits for one."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum, auto


class Answer(Enum):
    """What waiting for a key ends with; only ``GRANTED`` brings the key."""

    # The waiter holds the key now. Nothing is known about the row.
    GRANTED = auto()
    # The row is there: the transaction that created it has committed.
    CREATED = auto()
    # The row is there: the call that held the key has found it.
    FOUND = auto()
    # The wait has reached its limit.
    TIMEOUT = auto()
    # The wait would have been part of a cycle.
    DEADLOCK = auto()


class Owner(ABC):
    """What may hold keys: for the rooms above, a transaction."""

    __slots__ = ("__weakref__", "keys", "waits")

    def __init__(self) -> None:
        # Both are written by `Queues` only: {key: when it was given}, and the owner's
        # place in a queue.
        self.keys: dict[Hashable, float] = {}
        self.waits: Waiter | None = None

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it will still release what it holds."""

    # Never wait for a lower-ranked owner: it may need what we hold. A caller that
    # holds a connection and waits for one that has none can exhaust the pool.
    @abstractmethod
    def rank(self) -> int:
        """How much it holds, besides keys, that other owners may be waiting for."""


@dataclass(slots=True, eq=False)
class Waiter:
    """An owner's place in the queue for a key."""

    key: Hashable
    owner: Owner
    # The owner's rank, taken once: a session does nothing else while it waits.
    rank: int
    answer: asyncio.Future[Answer]

    @property
    def is_live(self) -> bool:
        """Whether it still waits: neither answered nor cancelled."""
        return not self.answer.done()

    def has_answer(self, answer: Answer) -> bool:
        """Whether this is its answer, even if it is cancelled before it reads it."""
        future = self.answer
        return future.done() and not future.cancelled() and future.result() is answer


def next_waiter(queue: Iterable[Waiter]) -> Waiter | None:
    """Return the first of the live waiters with the highest rank."""
    live = (waiter for waiter in queue if waiter.is_live)
    return max(live, key=lambda waiter: waiter.rank, default=None)
