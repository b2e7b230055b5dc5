"""Open and close calls that have a transaction of their own."""

from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from .._call import Policy, check_number, check_policy, check_type, policy_of
from .._models import T
from .batch import Batch
from .own_call import OwnCall
from .retry import ATTEMPTS, SESSIONS, run
from .under_way import Loops

R = TypeVar("R")


class OwnTransactions:
    """What all verbs of a creator need: sessions, a policy, and who is at work."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        policy: Policy | None,
        attempts: int,
        batch: Batch | None,
    ) -> None:
        given: Any = sessions
        check_type("sessions", given, isinstance(given, async_sessionmaker), SESSIONS)
        check_number("attempts", attempts, int, 1, ATTEMPTS)
        options: Any = (("policy", policy, Policy), ("batch", batch, Batch))
        for name, value, type_ in options:
            is_right = value is None or isinstance(value, type_)
            check_type(name, value, is_right, f"a {type_.__name__}, or None")
        self._sessions = sessions
        self._policy = policy
        self._attempts = attempts
        self._loops = Loops(batch)
        self._is_closed: bool = False
        # With what the sessions were configured with.
        self._known_probe: tuple[dict[str, Any], AsyncSession] | None = None

    async def aclose(self) -> None:
        """Refuse further calls, and wait until those of this event loop have ended.

        The engine is the caller's, and is not disposed of.
        """
        self._is_closed = True
        await self._loops.here().wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        calls, queued = self._loops.counts()
        state = "closed, " if self._is_closed else ""
        name = type(self).__name__
        return f"<{name}: {state}{calls} calls under way, {queued} queued>"

    @property
    def _probe(self) -> AsyncSession:
        """A session that never connects: to ask what the calls' own would do."""
        known = self._known_probe
        # The sessions may be configured at any time, to have another engine, say.
        if known is None or known[0] != self._sessions.kw:
            known = self._known_probe = ({**self._sessions.kw}, self._sessions())
        return known[1]

    def _open(self, verb: str, model: type[T], policy: Policy | None) -> OwnCall[T]:
        """Return the context of a call."""
        if self._is_closed:
            msg = f"this {type(self).__name__} is closed; make another one"
            raise RuntimeError(msg)
        if policy is not None:
            check_policy(model, policy)
        policy = policy or self._policy
        probe = self._probe
        policy = policy or policy_of(probe)
        return OwnCall(verb, model, policy, self._loops.here(), probe.sync_session)

    async def _in_session(
        self,
        call: OwnCall[Any],
        work: Callable[[AsyncSession], Awaitable[R]],
        **how: Any,
    ) -> R:
        """Return what the work returns, its instances detached and loaded."""
        how = {"attempts": self._attempts, "model": call.model, **how}
        return await run(self._new_session, work, **how)

    def _new_session(self) -> AsyncSession:
        # What was loaded stays loaded, because nothing could load it again.
        return self._sessions(expire_on_commit=False)
