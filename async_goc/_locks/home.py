"""Reach an event loop from wherever one is."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import ref


class HomeLoop:
    """The event loop that queues belong to, for callers that may be elsewhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, because the registry keeps the queues as long as their loop lives.
        self._loop = ref(loop)

    def is_closed(self) -> bool:
        """Whether nothing runs there any more."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def is_running(self) -> bool:
        """Whether it runs in this thread."""
        try:
            return asyncio.get_running_loop() is self._loop()
        except RuntimeError:  # None does.
            return False

    def time(self) -> float:
        """Return the loop's own time, in seconds."""
        return self._running().time()

    def call_at(
        self, when: float, function: Callable[..., object], *args: Any
    ) -> asyncio.TimerHandle:
        """Call *function* at that time of the loop's."""
        return self._running().call_at(when, function, *args)

    def run(self, function: Callable[..., object], *args: Any) -> None:
        """Call *function* in the loop's thread: at once, if this is the one."""
        if self.is_running():
            function(*args)
        else:
            self.run_soon(function, *args)

    def run_after(
        self, error: BaseException, function: Callable[..., object], *args: Any
    ) -> None:
        """Call *function* because a call has failed by *error*."""
        # The garbage collector closes a call at any time, in any thread.
        if isinstance(error, GeneratorExit):
            self.run_soon(function, *args)
        else:
            self.run(function, *args)

    def run_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call *function* in the loop's thread, and in the middle of nothing."""
        loop = self._loop()
        if loop is not None:
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(function, *args)

    def _running(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        assert loop is not None  # noqa: S101 - only its own code asks
        return loop
