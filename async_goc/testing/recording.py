"""Hear of every call, whatever its policy says."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident

from .._call import Event, everywhere


class _Recording:
    """The events of one block."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._thread = get_ident()

    def __call__(self, event: Event, /) -> None:
        if self._thread == get_ident() or self in _around.get():
            self.events.append(event)


# The recordings that a task, or the thread that started it, is inside of.
_around: ContextVar[tuple[_Recording, ...]] = ContextVar(
    "async_goc_recordings", default=()
)


@contextmanager
def record() -> Generator[list[Event]]:
    """Record an event for every call that ends inside of the block.

    Whatever observer a call's policy has, if any, hears of it as well. What is recorded
    are the calls of this thread, in whichever task they run and whenever that was
    started, and those of other threads that this block has started something in, as
    :func:`asyncio.to_thread` and the test clients of ASGI applications do. So tests
    that run in other threads at the same time do not hear of each other. Blocks may be
    nested.

    Example:
        >>> with record() as events:
        ...     await get_or_create(session, Tag, name="python")
        >>> assert [event.outcome for event in events] == ["created"]

    Yields:
        The events, in the order in which the calls have ended; the list grows.
    """
    recording = _Recording()
    everywhere.append(recording)
    _around.set((*_around.get(), recording))
    try:
        yield recording.events
    finally:
        everywhere.remove(recording)
        # Not reset(): a fixture may be left in another context than it was entered in.
        _around.set(tuple([each for each in _around.get() if each is not recording]))
