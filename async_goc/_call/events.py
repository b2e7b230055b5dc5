"""Say what each call did, to whoever wants to count or log it."""

from collections import Counter
from dataclasses import dataclass, field
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
        model: The mapped class. (``object`` for a transaction that
            :func:`run_in_transaction` runs again.)
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
        rows: How many rows the call was for: 1, or as many as a call for many was
            given, equal ones included. 0: it failed before it had read them; or the
            verb is ``"run_in_transaction"``.
        created: How many of them this call has created; 0 if it failed.
        database: ``"postgresql"``, ``"sqlite"``, ``"mariadb"``, ``"mysql"``, or what
            else SQLAlchemy calls it. ``None``: the session does not say.
        token: What the observer's own ``started()`` returned.
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
    rows: int = 1
    created: int = 0
    database: str | None = None
    token: object = field(default=None, compare=False, repr=False)


class Observer(Protocol):
    """Any callable that takes an :class:`Event`.

    It runs inside the call, on the event loop, so it must not block. An exception that
    it raises is logged, with its traceback, by the logger ``async_goc``, and does not
    reach the caller. (What is no :exc:`Exception`, a cancellation say, does.) A call
    whose session or policy is of the wrong type has not begun, and is not reported.

    It may also have a method ``started(verb, model)``, which is called first, in the
    task of the call. What that returns comes back as :attr:`Event.token`; it is
    ``None`` if it raised. So a span can be current as long as the call lasts.
    """

    def __call__(self, event: Event, /) -> None:
        """Take one event."""


def start(observer: Observer, verb: str, model: type[object]) -> object:
    """Report what begins; return the token for the event, if the observer has one."""
    try:
        started = getattr(observer, "started", None)
        return started(verb, model) if callable(started) else None
    except Exception:  # noqa: BLE001 - an observer may raise anything
        _log_error(verb, model)
        return None


def tell(observer: Observer, event: Event) -> None:
    """Report what is done, whether or not the observer can take it."""
    try:
        observer(event)
    except Exception:  # noqa: BLE001 - an observer may raise anything
        _log_error(event.verb, event.model)


def _log_error(verb: str, model: type[object]) -> None:
    _log.exception(
        "the observer of %s(%s) raised an exception, which changes nothing for the "
        "call; let the observer handle its own errors",
        verb,
        model.__name__,
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
