"""Let the garbage collector rest while many instances are made."""

import gc
import os
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final

from .._models import T

# The collector looks at what has been made, whenever that is so many objects more. Of
# what a call for many rows makes nothing is garbage, and to find that out again and
# again took a third of its time.
#
# A process has one collector. So it rests only where no other task can run: never while
# this one awaits. How often it is paused need not be counted. It is set to work again
# by the one that found it at work; so it is in the end as it was at first, in whichever
# order the threads of a process pause it.


class Pause:
    """A context in which the collector rests; nothing may be awaited inside."""

    def __enter__(self) -> None:
        self._was_at_work = gc.isenabled()
        if self._was_at_work:
            _paused.append(self)
            gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_at_work:
            gc.enable()
            _paused.remove(self)


# Those that have found it at work.
_paused: Final[list[Pause]] = []


class Uncollected(Generator[Any, Any, T]):
    """An awaitable that runs a coroutine, and pauses the collector where that runs."""

    # Whatever the coroutine awaits comes out of `send`, such as the SQL of a loader
    # option, or of a listener.

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    # The ABC's own would stand between the caller and a warning.
    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any, /) -> Any:
        with Pause():
            return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        with Pause():
            return self._coroutine.throw(*error)


def _start_in_child() -> None:
    # The thread that has paused it may not be there.
    if _paused:
        gc.enable()


# Where there is no fork, `dict` takes the argument, and nothing comes of it.
_at_fork: Callable[..., object] = getattr(os, "register_at_fork", dict[str, Any])
_at_fork(after_in_child=_start_in_child)
