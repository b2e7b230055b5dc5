"""Say what each call did, to whoever wants to count or log it."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Protocol, Self


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
    """The session had it at hand: no SQL."""
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
        attempts: INSERTs tried; 0 on a hit.
        waited: Seconds spent in the queue of this process.
        elapsed: Seconds from the call to its end.
        error: What the call raised, if it failed.
    """

    verb: str
    model: type[object]
    outcome: Outcome
    strategy: str
    attempts: int
    waited: float
    elapsed: float
    error: BaseException | None = None


class Observer(Protocol):
    """Any callable that takes an :class:`Event`.

    It runs inside the call, on the event loop: it must not block, and what it
    raises reaches the caller.
    """

    def __call__(self, event: Event, /) -> None:
        """Take one event."""


class Call:
    """One call under way: a context that reports how it ended.

    Attributes:
        model: The mapped class.
        attempts: INSERTs tried so far.
        waited: Seconds queued so far.
        outcome: How it has ended, unless it raises.
        strategy: How it inserts.
    """

    __slots__ = (
        "_observer",
        "_started",
        "_verb",
        "attempts",
        "model",
        "outcome",
        "strategy",
        "waited",
    )

    def __init__(
        self, verb: str, model: type[object], strategy: str, observer: Observer | None
    ) -> None:
        self._verb = verb
        self.model = model
        self._observer = observer
        self.strategy = strategy
        self.attempts = 0
        self.waited = 0.0
        self.outcome = Outcome.FAILED

    def __enter__(self) -> Self:
        if self._observer is not None:
            self._started = perf_counter()
        return self

    def __exit__(
        self, _: object, error: BaseException | None, _traceback: object
    ) -> None:
        if self._observer is not None:
            self._observer(
                Event(
                    verb=self._verb,
                    model=self.model,
                    outcome=self.outcome if error is None else Outcome.FAILED,
                    strategy=self.strategy,
                    attempts=self.attempts,
                    waited=self.waited,
                    elapsed=perf_counter() - self._started,
                    error=error,
                )
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
