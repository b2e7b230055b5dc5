"""Remember which keys have been released, within bounds."""

from collections import OrderedDict
from collections.abc import Hashable
from time import perf_counter


class Memory:
    """When keys were last released, and whether their rows existed then.

    Args:
        size: How many keys to remember.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        # {key: (when, whether)}, oldest first. A dict would have to look for its first
        # item, past all that have been taken out of it.
        self._released: OrderedDict[Hashable, tuple[float, bool]] = OrderedDict()
        # When the newest one was released; and the newest of those that are forgotten.
        self._newest = self._forgotten = float("-inf")

    def add(self, key: Hashable, *, exists: bool) -> None:
        """Note that *key* is being released."""
        self._newest = perf_counter()
        self._released[key] = (self._newest, exists)
        self._released.move_to_end(key)
        if len(self._released) > self._size:
            _, (self._forgotten, _) = self._released.popitem(last=False)

    def exists(self, key: Hashable) -> bool:
        """Whether the row of *key* is known to have existed."""
        return self._released.get(key, (0.0, False))[1]

    def forget(self, key: Hashable) -> None:
        """Note that the row does not exist any more."""
        if key in self._released:
            self._released[key] = (self._released[key][0], False)

    def has_changed(self, key: Hashable, since: float) -> bool:
        """Whether *key* may have been released since then (``perf_counter()``)."""
        if self._newest < since:
            return False
        released, _ = self._released.get(key, (self._forgotten, False))
        return released >= since
