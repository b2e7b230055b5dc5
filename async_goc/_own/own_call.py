"""One call of a creator: how it behaves, and what it reports."""

from collections.abc import Awaitable
from dataclasses import replace
from time import perf_counter
from typing import Generic, Self, TypeVar

from sqlalchemy.orm import Session

from .._call import Event, Outcome, Policy, tell
from .._models import T
from .under_way import UnderWay

R = TypeVar("R")


class OwnCall(Generic[T]):
    """A context that every verb of a creator opens first; it reports how it ended."""

    # The report.
    lane = "session"
    outcome = Outcome.FAILED
    attempts = 0
    _waited = 0.0

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
        self.under_way.enter()
        if self.policy.observer is not None:
            self._started = perf_counter()
        return self

    def __exit__(self, _: object, error: BaseException | None, _t: object) -> None:
        if isinstance(error, GeneratorExit):
            # The garbage collector closes a call in any thread.
            self.under_way.home.run(self.under_way.leave)
        else:
            self.under_way.leave()
        if self.policy.observer is not None:
            event = Event(
                verb=self._verb,
                model=self.model,
                outcome=self.outcome if error is None else Outcome.FAILED,
                strategy=self.strategy,
                attempts=self.attempts,
                waited=self._waited,
                elapsed=perf_counter() - self._started,
                error=error,
                lane=self.lane,
            )
            tell(self.policy.observer, event)

    def wait(self, answer: Awaitable[R]) -> Awaitable[R]:
        """Wait for what another call, or a batch, answers."""
        return answer if self.policy.observer is None else self._timed(answer)

    async def _timed(self, answer: Awaitable[R]) -> R:
        started = perf_counter()
        try:
            return await answer
        finally:
            self._waited += perf_counter() - started

    @property
    def limit(self) -> float | None:
        """Seconds for which an INSERT waits for a rival before a session is asked."""
        # That waits for as long as the policy says, and says how it has ended.
        policy = self.policy
        return policy.wait_timeout if policy.lock_timeout is None else 0

    @property
    def inner_policy(self) -> Policy:
        """The policy for the call in the session, which reports to this one."""
        if self.policy.observer is None:
            return self.policy
        return replace(self.policy, observer=self._note)

    def _note(self, event: Event) -> None:
        self.lane, self.outcome, self.strategy = (
            "session",
            event.outcome,
            event.strategy,
        )
        self.attempts += event.attempts
        self._waited += event.waited
