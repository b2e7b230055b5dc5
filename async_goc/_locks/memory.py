"""Remember which keys have been released, within bounds."""

from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable
from time import perf_counter
from typing import Final

_MOST_ABSENT: Final = 100
# What part of the memory the keys of one transaction may fill.
_CROWD: Final = 10


class Memory:
    """When each of the last *size* keys was released whose rows existed."""

    # A key whose row is not there, because the call failed or the transaction was
    # rolled back, is of use only to the calls that were looking at that moment. So a
    # few of those are enough, and a client that sends what the database refuses does
    # not make the memory forget what it is for.

    def __init__(self, size: int) -> None:
        self._size = size
        # {key: time of its release}, oldest first. A plain dict finds its first item by
        # walking past all that were deleted before it.
        self._released: OrderedDict[Hashable, float] = OrderedDict()
        # The same, of keys whose rows were not there.
        self._absent: OrderedDict[Hashable, float] = OrderedDict()
        # The time of the last release, and of the last one that has been forgotten.
        self._newest = self._forgotten = float("-inf")
        # The last time that so many were released that they are not remembered.
        self._crowded = float("-inf")

    def add(self, key: Hashable, *, exists: bool) -> None:
        """Note that *key* is being released."""
        now = self._newest = perf_counter()
        if exists:
            if self._absent:
                self._absent.pop(key, None)
            self._keep(self._released, key, now, self._size)
        else:
            self._released.pop(key, None)
            self._keep_absent(key, now)

    def add_all(self, keys: Collection[Hashable], *, exists: bool) -> None:
        """Note that *keys* are being released at once."""
        # Those of one transaction must not push out what all others have left here.
        if len(keys) > self._size // _CROWD:
            self._newest = self._crowded = perf_counter()
            return
        for key in keys:
            self.add(key, exists=exists)

    def exists(self, key: Hashable) -> bool:
        """Whether the row of *key* is known to have existed."""
        return key in self._released

    def forget(self, key: Hashable) -> None:
        """Note that the row does not exist any more."""
        # The time stays: it still says which SELECTs began before the release.
        released = self._released.pop(key, None)
        if released is not None:
            self._keep_absent(key, released)

    def forget_all(self, keys: Collection[Hashable]) -> None:
        """Note that the rows do not exist any more."""
        # To look for thousands of keys takes a while, even where there is nothing.
        known = self._released.__contains__
        for key in list(filter(known, keys)) if self._released else ():
            self.forget(key)

    def have_changed(self, keys: Iterable[Hashable], since: float) -> bool:
        """Whether any of *keys* may have been released since that moment."""
        return self._newest >= since and any(self.has_changed(k, since) for k in keys)

    def has_changed(self, key: Hashable, since: float) -> bool:
        """Whether *key* may have been released since that ``perf_counter()``."""
        if self._newest < since:
            return False
        # A key that is not remembered may be a forgotten one, so the last release that
        # was forgotten counts as its own: looking once too often costs one SELECT,
        # looking once too seldom a lost race.
        released = self._released.get(key) or self._absent.get(key, self._forgotten)
        return max(released, self._crowded) >= since

    def __len__(self) -> int:
        return len(self._released)

    def _keep_absent(self, key: Hashable, time: float) -> None:
        self._keep(self._absent, key, time, min(self._size, _MOST_ABSENT))

    def _keep(
        self, keys: OrderedDict[Hashable, float], key: Hashable, time: float, most: int
    ) -> None:
        if most:
            keys[key] = time
            keys.move_to_end(key)
            if len(keys) <= most:
                return
            _, time = keys.popitem(last=False)
        self._forgotten = max(self._forgotten, time)
