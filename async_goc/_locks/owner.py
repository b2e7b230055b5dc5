"""Say who holds a key, and who waits for it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from enum import Enum, auto


class Answer(Enum):
    """What waiting for a key ends with."""

    GRANTED = auto()
    """The key is yours; nobody vouches for the row."""
    CREATED = auto()
    """The row is there: who created it has committed. The key is not yours."""
    FOUND = auto()
    """The row is there: it was found. The key is not yours."""
    TIMEOUT = auto()
    """The time is up. The key is not yours."""
    DEADLOCK = auto()
    """Waiting would not have ended. The key is not yours."""


class Owner(ABC):
    """Whoever may hold keys.

    Attributes:
        keys: What it holds, and since when. Only the queues write it.
        waits: Its place in a queue. Only the queues write it.
    """

    __slots__ = ("__weakref__", "keys", "waits")

    def __init__(self) -> None:
        self.keys: dict[Hashable, float] = {}
        self.waits: Waiter | None = None

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it will still release what it holds."""

    @abstractmethod
    def rank(self) -> int:
        """How much it holds, other than keys, that others may be waiting for.

        Nobody waits for an owner of a lower rank, who may be waiting for just that.
        """


class Waiter:
    """A place in a queue."""

    __slots__ = ("answer", "key", "owner", "rank")

    def __init__(
        self, key: Hashable, owner: Owner, answer: asyncio.Future[Answer]
    ) -> None:
        self.key: Hashable = key
        self.owner: Owner = owner
        self.rank: int = owner.rank()  # It does nothing else while it waits.
        self.answer: asyncio.Future[Answer] = answer

    @property
    def is_live(self) -> bool:
        """Whether it still waits: neither answered nor cancelled."""
        return not self.answer.done()

    def has_got(self, answer: Answer) -> bool:
        """Whether this is its answer, also if it is cancelled before it hears it."""
        future = self.answer
        return future.done() and not future.cancelled() and future.result() is answer


def next_waiter(line: Iterable[Waiter]) -> Waiter | None:
    """Who comes next: the first of those with the highest rank."""
    live = (waiter for waiter in line if waiter.is_live)
    return max(live, key=lambda waiter: waiter.rank, default=None)
