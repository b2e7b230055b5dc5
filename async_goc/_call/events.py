"""Say what each call did, to whoever wants to count or log it."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from logging import getLogger
from typing import Final, Protocol

_log: Final = getLogger("async_goc")


class Outcome(StrEnum):
    """How a call ended."""

    HIT = "hit"
    """The row was there."""
    WAITED_HIT = "waited_hit"
    """The row was there after queueing for a creator in this process."""
    CREATED = "created"
    """This call inserted the row."""
    LOST_RACE = "lost_race"
    """A rival inserted the row first; this call returned the rival's."""
    UPDATED = "updated"
    """The row was there, and this call changed it."""
    CACHED = "cached"
    """The session had it at hand, without SQL."""
    FAILED = "failed"
    """The call raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One finished call.

    Attributes:
        verb: The function's name.
        model: The mapped class.
        outcome: How the call ended.
        strategy: How it inserted: as its policy says, or by ``"savepoint"`` where
            ``"native"`` does not fit. On a hit, the policy's.
        attempts: How often it tried to insert, as ``Policy.attempts`` counts; 0 on a
            hit. A call for many rows counts each statement or flush for a chunk, and
            each row that is then inserted alone.
        waited: Seconds spent in the queue of this process.
        elapsed: Seconds from the call to its end.
        error: What the call raised, if it failed.
        lane: How a call in a transaction of its own reached the database: ``"driver"``,
            ``"cursor"`` or ``"session"``. ``None``: it ran in the caller's session.
    """

    verb: str
    model: type[object]
    outcome: Outcome
    strategy: str
    attempts: int
    waited: float
    elapsed: float
    error: BaseException | None = None
    lane: str | None = None


class Observer(Protocol):
    """Any callable that takes an :class:`Event`.

    It runs inside the call, on the event loop, so it must not block. An exception that
    it raises is logged, with its traceback, by the logger ``async_goc``, and does not
    reach the caller. (What is no :exc:`Exception`, a cancellation say, does.) A call
    whose session or policy is of the wrong type has not begun, and is not reported.
    """

    def __call__(self, event: Event, /) -> None:
        """Take one event."""


def tell(observer: Observer, event: Event) -> None:
    """Report what is done, whether or not the observer can take it."""
    try:
        observer(event)
    except Exception:  # noqa: BLE001 - an observer may raise anything
        _log.exception(
            "the observer of %s(%s) raised an exception, which changes nothing for "
            "the call; let the observer handle its own errors",
            event.verb,
            event.model.__name__,
        )


class Stats:
    """An observer that counts outcomes per model.

    Example:
        >>> stats = Stats()
        >>> policy = Policy(observer=stats)

    Attributes:
        counts: ``{(model, outcome): calls}``.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[type[object], Outcome]] = Counter()

    def __call__(self, event: Event, /) -> None:
        """Count one event."""
        self.counts[event.model, event.outcome] += 1

    def __getitem__(self, outcome: Outcome | str) -> int:
        """The calls that ended with *outcome*, over all models."""
        return sum(n for (_, seen), n in self.counts.items() if seen == outcome)

    def __repr__(self) -> str:
        listed = ", ".join(f"{self[o]} {o}" for o in Outcome if self[o])
        return f"<Stats: {listed or 'no calls'}>"
