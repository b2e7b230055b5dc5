"""Remember which keys have been released, within bounds."""

from collections import OrderedDict
from collections.abc import Hashable
from time import perf_counter


class Memory:
    """When each of the last *size* keys was released, and whether its row existed."""

    def __init__(self, size: int) -> None:
        self._size = size
        # {key: (time of its release, whether its row existed)}, oldest first. A plain
        # dict finds its first item by walking past all that were deleted before it.
        self._released: OrderedDict[Hashable, tuple[float, bool]] = OrderedDict()
        # The time of the last release, and of the last one that has been forgotten.
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
        # The time stays: it still says which SELECTs began before the release.
        if key in self._released:
            self._released[key] = (self._released[key][0], False)

    def has_changed(self, key: Hashable, since: float) -> bool:
        """Whether *key* may have been released since that ``perf_counter()``."""
        if self._newest < since:
            return False
        # A key that is not remembered may be a forgotten one, so the last release that
        # was forgotten counts as its own: looking once too often costs one SELECT,
        # looking once too seldom a lost race.
        released, _ = self._released.get(key, (self._forgotten, False))
        return released >= since

    def __len__(self) -> int:
        return len(self._released)
