"""Say who holds which key, and take and give back many at once."""

from collections.abc import Collection, Hashable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from .memory import Memory
from .owner import Answer, Owner
from .statistics import Counts

if TYPE_CHECKING:
    from .line import Line


# A call for many rows has thousands of keys, and hardly ever does another call want one
# of them. What is done for each key in turn took a sixth of the call. And a key is
# hashed whenever it is looked for, but not where sets and dicts meet.

K = TypeVar("K", bound=Hashable)


class Holders:
    """The keys that are held in one event loop, and by whom."""

    def __init__(self, most_known: int, counts: Counts) -> None:
        self.counts: Counts = counts
        self.memory: Memory = Memory(most_known)
        self._holders: dict[Hashable, Owner] = {}
        # {key: its line}, while it has waiters or a scout.
        self._lines: dict[Hashable, Line] = {}
        self.holders: Mapping[Hashable, Owner] = self._holders

    @property
    def held(self) -> int:
        return len(self._holders)

    def take_free(self, key: Hashable, owner: Owner) -> bool:
        """Take *key*, if it is free; say whether it was."""
        if key in self._holders:
            return False
        # Nobody waits for a key that is free.
        self._holders[key] = owner
        owner.keys[key] = perf_counter()
        self.counts.acquired += 1
        return True

    def hand_over(self, key: Hashable, holder: Owner, owner: Owner) -> None:
        """Let *owner* hold *key* in place of *holder*, since the same moment."""
        line = self._lines.get(key)
        if line is not None and line.scout is holder:
            line.scout = owner  # One who was quicker has the key.
        else:
            self._holders[key] = owner
        owner.keys[key] = holder.keys.pop(key)
        if holder.is_overdue or holder.scouted is not None:
            owner.is_overdue, owner.scouted = holder.is_overdue, holder.scouted

    def take_all(self, keys: Collection[Hashable], owner: Owner) -> bool:
        """Take *keys*, if all are free; say whether *owner* holds them now."""
        if self._holders and len(set(keys).difference(self._holders)) < len(keys):
            return False
        self._holders.update(dict.fromkeys(keys, owner))
        owner.keys.update(dict.fromkeys(keys, perf_counter()))
        self.counts.acquired += len(keys)
        return True

    def not_held(self, keys: Collection[K], owner: Owner) -> list[K]:
        """Return those of *keys* that *owner* does not hold."""
        if self._lines:
            # A scout has the key among its own, but does not hold it.
            return [key for key in keys if self._holders.get(key) is not owner]
        lost = set(keys).difference(owner.keys)
        return [key for key in keys if key in lost] if lost else []

    def _drop_all(
        self, keys: Collection[Hashable], owner: Owner, answer: Answer
    ) -> None:
        """Give back what nobody waits for."""
        # Some may have ended twice, or have been lost to a higher rank.
        lost = set(keys).difference(owner.keys)
        held = [key for key in keys if key not in lost] if lost else keys
        for where in (self._holders, owner.keys):
            _remove(held, where)
        owner.rest()
        self.memory.add_all(held, exists=answer is not Answer.GRANTED)

    def _lose(self, key: Hashable, owner: Owner) -> None:
        del owner.keys[key]
        # Most have kept nobody waiting.
        if owner.is_overdue or owner.scouted is not None:
            owner.rest()


def _remove(keys: Collection[Hashable], where: dict[Hashable, Any]) -> None:
    """Remove *keys*, each of which is there, and given once."""
    if len(keys) == len(where):
        where.clear()  # None of them is hashed again.
    else:
        for key in keys:
            del where[key]
