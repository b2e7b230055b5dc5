"""Let several observers listen to one call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .events import Event, Observer, start, tell
from .policy import OBSERVER, check_type

# What hears of every call, whatever policy that has: tests put their recordings here.
everywhere: Final[list[Observer]] = []


class Relay:
    """What a call inside of another one reports to: the other one's report counts."""

    def __init__(self, note: Observer) -> None:
        self._note = note

    def __call__(self, event: Event, /) -> None:
        self._note(event)


@dataclass(frozen=True, slots=True)
class _Observers:
    """Several observers, as one."""

    many: Sequence[Observer]

    def started(self, verb: str, model: type[object]) -> object:
        """Tell each that a call begins; return their tokens."""
        return [start(observer, verb, model) for observer in self.many]

    def __call__(self, event: Event, /) -> None:
        """Tell each how the call has ended."""
        # Without a start, there is none.
        tokens: Any = event.token or [None for _ in self.many]
        # The last to begin is the first to end, as with contexts.
        for observer, token in reversed(list(zip(self.many, tokens, strict=True))):
            tell(observer, replace(event, token=token))


def observers(*many: Observer) -> Observer:
    """Return one observer that passes everything on to each of these.

    Each has a token of its own. They are told of a call's start in this order, and of
    its end in the opposite one; and what one of them raises, the others do not notice.

    Example:
        >>> policy = Policy(observer=observers(Stats(), Tracing()))

    Raises:
        TypeError: One of them is not callable.
    """
    for observer in many:
        check_type("observer", observer, callable(observer), OBSERVER)
    return _Observers(many)


def listener(observer: Observer | None) -> Observer | None:
    """Return what hears of a call whose policy has that observer; None: nothing."""
    if not everywhere or isinstance(observer, Relay):
        return observer
    if observer is None:
        return observers(*everywhere)
    return observers(observer, *everywhere)
