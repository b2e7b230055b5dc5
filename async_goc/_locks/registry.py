"""Hold the process's queues, one set for each event loop, under one public name."""

import asyncio
import os
from collections.abc import Callable, Hashable
from dataclasses import asdict, fields
from itertools import chain
from threading import Lock
from time import perf_counter
from typing import Any, Final
from weakref import WeakKeyDictionary

from .queues import Queues
from .statistics import Counts, LockStatistics


class KeyedLocks:
    """The registry in which calls of one process queue for the same missing row.

    It belongs to no event loop: each loop that uses it gets queues of its own. A
    process usually needs only one registry, the default policy's.

    It belongs to one process: a forked child finds it empty, a copy is the registry
    itself, and what another process unpickles is a new one, with the same
    ``known_keys``, or that process's default registry in place of this one's.

    Args:
        known_keys: How many keys each event loop remembers after their release. A
            session without a connection need not queue for those whose rows existed.

    Raises:
        ValueError: ``known_keys`` is negative.
    """

    def __init__(self, known_keys: int = 10_000) -> None:
        if known_keys < 0:
            msg = f"known_keys is {known_keys}; give 0 (remember none) or more"
            raise ValueError(msg)
        self._known_keys = known_keys
        self._start()
        _registries[self] = None

    def _start(self) -> None:
        """Begin with nothing held, and nobody waiting."""
        # Shared by all loops. Two threads may lose an increment: nothing depends on
        # these figures.
        self._counts = Counts()
        # Written under the guard, by whichever thread meets a new loop.
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, Queues] = (
            WeakKeyDictionary()
        )
        self._guard = Lock()

    def queues(self) -> Queues:
        """Return the running loop's queues."""
        loop = asyncio.get_running_loop()
        found = self._queues.get(loop)
        if found is None:
            found = Queues(loop, self._known_keys, self._counts)
            with self._guard:
                # The future of a waiter refers to its loop. A loop that was closed in
                # the middle of a wait would therefore stay here for ever.
                for other in [one for one in self._queues if one.is_closed()]:
                    del self._queues[other]
                self._queues[loop] = found
        return found

    def statistics(self) -> LockStatistics:
        """Return the figures of all event loops together."""
        queues = self._open_queues()
        return LockStatistics(
            held=sum(q.held for q in queues),
            waiting=sum(q.waiting for q in queues),
            **asdict(self._counts),
        )

    def __repr__(self) -> str:
        queues = self._open_queues()
        held, waiting = sum(q.held for q in queues), sum(q.waiting for q in queues)
        remembered = sum(len(q.memory) for q in queues)
        return f"<KeyedLocks: {held} held, {waiting} waiting, {remembered} remembered>"

    # dataclasses.asdict() copies a policy deeply, but a copy of this registry would be
    # another registry, in which nothing queues for the original's keys.
    def __copy__(self) -> "KeyedLocks":
        return self

    def __deepcopy__(self, _: object) -> "KeyedLocks":
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        # The text is the name of a global, as which the default registry is pickled.
        return _DEFAULT if self is DEFAULT_LOCKS else (KeyedLocks, (self._known_keys,))

    def _open_queues(self) -> list[Queues]:
        with self._guard:
            return [q for q in self._queues.values() if not q.home.is_closed()]


_registries: Final[WeakKeyDictionary[KeyedLocks, None]] = WeakKeyDictionary()


def _all_registries() -> list[KeyedLocks]:
    # These references are listed at once. Another thread may make a registry at any
    # time, and to iterate over what is weak fails then.
    known = [reference() for reference in _registries.keyrefs()]
    return [registry for registry in known if registry is not None]


def all_statistics() -> LockStatistics:
    """Return the figures of all registries of the process together."""
    figures = [registry.statistics() for registry in _all_registries()]
    names = [field.name for field in fields(LockStatistics)]
    return LockStatistics(**{n: sum(getattr(f, n) for f in figures) for n in names})


def held_keys() -> list[tuple[Hashable, float]]:
    """Return all keys held in this process, and for how many seconds they have been."""
    queues = chain.from_iterable(
        registry._open_queues()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        for registry in _all_registries()
    )
    # What has ended without a word will never release its keys: whoever needs one next
    # takes it away.
    held = chain.from_iterable(list(each.holders.items()) for each in queues)
    now = perf_counter()
    return [
        (key, now - owner.keys.get(key, now)) for key, owner in held if owner.is_alive()
    ]


# All that it does, it does in a running event loop.
DEFAULT_LOCKS: Final = KeyedLocks()
_DEFAULT: Final = "DEFAULT_LOCKS"


def _start_in_child() -> None:
    # The parent's transactions will never end here. Its guard may be locked, by a
    # thread that the child does not have.
    for registry in _all_registries():
        registry._start()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


# Where there is no fork, `dict` takes the argument, and nothing comes of it.
_at_fork: Callable[..., object] = getattr(os, "register_at_fork", dict[str, Any])
_at_fork(after_in_child=_start_in_child)
