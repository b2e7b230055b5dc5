"""One call of a creator: how it behaves, and what it reports."""

from collections.abc import Awaitable
from dataclasses import replace
from time import perf_counter
from typing import Generic, Self, TypeVar

from sqlalchemy.orm import Session

from .._call import Event, Outcome, Policy, Relay, Report, database_of, open_report
from .._models import T
from .under_way import UnderWay

R = TypeVar("R")


class OwnCall(Generic[T]):
    """A context that every verb of a creator opens first; it reports how it ended."""

    # The report.
    lane: str | None = "session"
    outcome = Outcome.FAILED
    attempts = 0
    waited = 0.0
    rows = 1
    created = 0
    _report: Report | None = None

    def __init__(
        self,
        verb: str,
        model: type[T],
        policy: Policy,
        under_way: UnderWay,
        probe: Session,
    ) -> None:
        self._verb, self.model, self.under_way = verb, model, under_way
        self.policy = policy
        # A session that never connects.
        self.probe = probe
        self.strategy: str = policy.strategy

    def __enter__(self) -> Self:
        # First, because what ends the task here ends a call that has not begun.
        self._report = open_report(self.policy.observer, self._verb, self.model)
        self.under_way.enter()
        return self

    def __exit__(self, _: object, error: BaseException | None, _t: object) -> None:
        if isinstance(error, GeneratorExit):
            # The garbage collector closes a call in any thread.
            self.under_way.home.run(self.under_way.leave)
        else:
            self.under_way.leave()
        if self._report is not None:
            self._report.send(self, error)

    @property
    def database(self) -> str | None:
        """Which database the call asks, if the sessions say so."""
        return database_of(self.probe, self.model)

    def wait(self, answer: Awaitable[R]) -> Awaitable[R]:
        """Wait for what another call, or a batch, answers."""
        return answer if self._report is None else self._timed(answer)

    async def _timed(self, answer: Awaitable[R]) -> R:
        started = perf_counter()
        try:
            return await answer
        finally:
            self.waited += perf_counter() - started

    @property
    def limit(self) -> float | None:
        """Seconds for which an INSERT waits for a rival before a session is asked."""
        # That waits for as long as the policy says, and says how it has ended.
        policy = self.policy
        return policy.wait_timeout if policy.lock_timeout is None else 0

    @property
    def inner_policy(self) -> Policy:
        """The policy for the call in the session, which reports to this one."""
        if self._report is None:
            return self.policy
        return replace(self.policy, observer=Relay(self._note))

    def _note(self, event: Event) -> None:
        self.lane, self.outcome = "session", event.outcome
        self.strategy = event.strategy
        self.rows, self.created = event.rows, event.created
        self.attempts += event.attempts
        self.waited += event.waited
