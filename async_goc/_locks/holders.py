"""Say who holds which key, and take and give back many at once."""

from collections.abc import Collection, Hashable, Mapping
from time import perf_counter
from typing import Any, TypeVar

from .memory import Memory
from .owner import Answer, Owner
from .statistics import Counts

# A call for many rows has thousands of keys, and hardly ever does another call want one
# of them. What is done for each key in turn took a sixth of the call.


K = TypeVar("K", bound=Hashable)


class Holders:
    """The keys that are held in one event loop, and by whom."""

    def __init__(self, most_known: int, counts: Counts) -> None:
        self.counts: Counts = counts
        self.memory: Memory = Memory(most_known)
        self._holders: dict[Hashable, Owner] = {}
        self.holders: Mapping[Hashable, Owner] = self._holders

    @property
    def held(self) -> int:
        return len(self._holders)

    def take_all(self, keys: Collection[Hashable], owner: Owner) -> bool:
        """Take *keys*, if all are free; say whether *owner* holds them now."""
        if self._holders and not self._holders.keys().isdisjoint(keys):
            return False
        # Nobody waits for a key that is free.
        self._holders.update(dict.fromkeys(keys, owner))
        owner.keys.update(dict.fromkeys(keys, perf_counter()))
        self.counts.acquired += len(keys)
        return True

    def not_held(self, keys: Collection[K], owner: Owner) -> list[K]:
        """Return those of *keys* that *owner* does not hold."""
        holders = list(map(self._holders.get, keys))
        if holders.count(owner) == len(keys):
            return []
        pairs = zip(keys, holders, strict=True)
        return [key for key, holder in pairs if holder is not owner]

    def _drop_all(
        self, keys: Collection[Hashable], owner: Owner, answer: Answer
    ) -> None:
        """Give back what nobody waits for."""
        # Some may have ended twice, or have been lost to a higher rank.
        lost = set(self.not_held(keys, owner))
        held = [key for key in keys if key not in lost] if lost else keys
        for where in (self._holders, owner.keys):
            _remove(held, where)
        self._rest(owner)
        self.memory.add_all(held, exists=answer is not Answer.GRANTED)

    def _lose(self, key: Hashable, owner: Owner) -> None:
        del owner.keys[key]
        self._rest(owner)

    def _rest(self, owner: Owner) -> None:
        if not owner.keys:
            owner.is_overdue, owner.scouted = False, None


def _remove(keys: Collection[Hashable], where: dict[Hashable, Any]) -> None:
    """Remove *keys*, each of which is there, and given once."""
    if len(keys) == len(where):
        where.clear()  # None of them is hashed again.
    else:
        for key in keys:
            del where[key]
