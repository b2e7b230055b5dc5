"""Report on one call, from its start to its end, if anything listens to it."""

from time import perf_counter
from typing import Protocol

from .events import Event, Observer, Outcome, start, tell
from .observers import listener


class Reported(Protocol):
    """What a call says of itself."""

    outcome: Outcome
    strategy: str
    attempts: int
    waited: float
    rows: int
    created: int
    lane: str | None

    @property
    def database(self) -> str | None:
        """Which database it asks."""


class Report:
    """The report on a call that has begun."""

    __slots__ = ("_began", "_model", "_observer", "_token", "_verb")

    def __init__(self, observer: Observer, verb: str, model: type[object]) -> None:
        self._observer, self._verb, self._model = observer, verb, model
        self._token = start(observer, verb, model)
        self._began = perf_counter()

    def send(self, call: Reported, error: BaseException | None) -> None:
        """Tell the observer how the call has ended."""
        outcome = call.outcome if error is None else Outcome.FAILED
        # A call for one row says by its outcome that it has created it.
        created = call.created or int(outcome is Outcome.CREATED)
        event = Event(
            verb=self._verb,
            model=self._model,
            outcome=outcome,
            strategy=call.strategy,
            attempts=call.attempts,
            waited=call.waited,
            elapsed=perf_counter() - self._began,
            error=error,
            lane=call.lane,
            rows=call.rows,
            created=created if error is None else 0,
            database=call.database,
            token=self._token,
        )
        tell(self._observer, event)


def open_report(
    observer: Observer | None, verb: str, model: type[object]
) -> Report | None:
    """Return the report on a call that begins now; None: nothing listens to it."""
    heard = listener(observer)
    return None if heard is None else Report(heard, verb, model)
