"""Say what may hold a key, and what waits for one."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

    from .line import Line, Waiter


class Answer(Enum):
    """What waiting for a key ends with; only ``GRANTED`` brings the key."""

    # The waiter holds the key now. Nothing is known about the row.
    GRANTED = auto()
    # The row is there: the transaction that created it has committed.
    CREATED = auto()
    # The row is there: the call that held the key has found it.
    FOUND = auto()
    # The holder has kept the key for too long. The waiter asks the database in its
    # place, and for those behind it: it has to release the key as if it held it.
    TIMEOUT = auto()
    # The wait would have been part of a cycle, or may be.
    DEADLOCK = auto()


class Owner(ABC):
    """What may hold keys: for the rooms above, a transaction."""

    # What most owners never have is the class's, which takes no time.
    #
    # The only task that can go on to release the keys, if that is known: it must not
    # wait for one of them, as a call by a listener would.
    task: "Task[Any] | None" = None

    # The rest is written by `Queues` only.
    #
    # Its place in a line.
    waits: "Waiter | None" = None
    # Whether it has kept one of its keys for too long; and the line that has sent a
    # scout because of that.
    is_overdue: bool = False
    scouted: "Line | None" = None

    def __init__(self) -> None:
        # {key: when it was given}
        self.keys: dict[Hashable, float] = {}

    def rest(self) -> None:
        """Have kept nobody waiting, unless it still holds keys."""
        if not self.keys:
            self.is_overdue, self.scouted = False, None

    @property
    def has_scout(self) -> bool:
        """Whether a waiter for one of its keys is in the database already."""
        line = self.scouted
        return line is not None and line.scout is not None and line.key in self.keys

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it will still release what it holds."""

    # Never wait for a lower-ranked owner: it may need what we hold. A caller that
    # holds a connection and waits for one that has none can exhaust the pool.
    @abstractmethod
    def rank(self) -> int:
        """How much it holds, besides keys, that other owners may be waiting for."""

    @abstractmethod
    def is_executing(self) -> bool:
        """Whether it is in the middle of a statement, and may be waiting for a lock."""

    @abstractmethod
    def is_in_line(self, key: Hashable) -> bool:
        """Whether it waits elsewhere, where others that want *key* would follow."""
