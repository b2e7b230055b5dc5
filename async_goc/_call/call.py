"""One call under way: whose session it uses, how it behaves, and what it reports."""

from asyncio import get_running_loop
from contextlib import suppress
from typing import Any, Final, Self

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper, class_mapper

from .._databases import give_up
from .._locks import Owner
from ..exceptions import ContradictionError, SnapshotConflictError
from .claim import Claim, claim_session, claims, leave_session
from .events import Outcome
from .policy import DEFAULT_POLICY, Policy
from .report import Report, open_report
from .routing import database_of, refuse_shards, send_to_writer

# Where an application keeps the policy of its sessions.
_POLICY: Final = "async_goc.policy"

AnySession = AsyncSession | async_scoped_session[AsyncSession]


class Call:
    """A context that every verb opens first; it reports how the call ended.

    Raises TypeError if *session* or *policy* is something else, InvalidRequestError if
    the session is sharded, and RuntimeError where no event loop of asyncio runs.
    """

    # The report. Nothing in here decides what the call does next.
    outcome = Outcome.FAILED
    attempts = 0
    waited = 0.0
    rows = 1
    created = 0
    lane: str | None = None
    _report: Report | None = None
    _claim: Claim | None = None

    def __init__(
        self,
        verb: str,
        session: AnySession,
        model: type[object],
        policy: Policy | None,
    ) -> None:
        if policy is not None:
            check_policy(model, policy)
        check_loop()
        own = session if isinstance(session, AsyncSession) else _resolved(session)
        refuse_shards(own.sync_session, model)
        self._verb = verb
        self.session: AsyncSession = own
        self.model = model
        self.policy: Policy = policy or policy_of(own)
        self.strategy: str = self.policy.strategy

    def __enter__(self) -> Self:
        self._report = open_report(self.policy.observer, self._verb, self.model)
        return self

    def __exit__(
        self, _: object, error: BaseException | None, _traceback: object
    ) -> None:
        if self._claim is not None:
            leave_session(self.session.sync_session, self._claim)
        if error is not None:
            self._end_badly(error)
        if self._report is not None:
            self._report.send(self, error)

    @property
    def database(self) -> str | None:
        """Which database the session asks, if it says so."""
        return database_of(self.session.sync_session, self.model)

    def use_writer(self, mapper: Mapper[Any]) -> bool:
        """From now on, read where rows are written; say if that is another place.

        The session chooses again when the last call in it has ended.
        """
        return send_to_writer(self.session.sync_session, mapper)

    def _end_badly(self, error: BaseException) -> None:
        if isinstance(error, ContradictionError) and self._hides_values():
            error.hide()
        if isinstance(error, (DBAPIError, SnapshotConflictError)):
            give_up(self.session.sync_session, error)

    def _hides_values(self) -> bool:
        """Whether SQLAlchemy would not show values in a message, either."""
        with suppress(Exception):  # The session may have no bind.
            bind = self.session.sync_session.get_bind(class_mapper(self.model))
            return bind.engine.hide_parameters
        return True

    def claim_session(self) -> None:
        """Keep calls of other tasks off the session until this one ends.

        Raises InvalidRequestError if such a call is using it. Nested calls may run.
        """
        self._claim = claim_session(self.session.sync_session)

    def note_owner(self, owner: Owner) -> None:
        """Note what holds keys for this call."""
        claim: Any = self._claim
        claim.owner = owner

    def owners_around(self) -> list[Owner]:
        """Return the owners that cannot go on before this call does."""
        return [claim.owner for claim in claims() if claim.owner is not None]


def _resolved(session: AnySession) -> AsyncSession:
    found: Any = session() if isinstance(session, async_scoped_session) else session
    if not isinstance(found, AsyncSession):
        msg = (
            f"session is of type {type(found).__name__}; pass a "
            "sqlalchemy.ext.asyncio.AsyncSession or async_scoped_session"
        )
        raise TypeError(msg)
    return found


def check_loop() -> None:
    """Refuse to run under trio, or under nothing, before a driver fails there."""
    try:
        get_running_loop()
    except RuntimeError:
        msg = (
            "no asyncio event loop is running here, and async_goc needs asyncio, as "
            "SQLAlchemy's drivers do; under trio or anyio, use asyncio as the backend"
        )
        raise RuntimeError(msg) from None


def check_policy(model: type[object], policy: object) -> None:
    """Refuse what is no policy, such as a value to look up a column by."""
    if not isinstance(policy, Policy):
        msg = (
            f"policy is of type {type(policy).__name__}; give a Policy. To look up a "
            f"column of that name, give {model.__name__}.policy == value as a "
            "positional criterion"
        )
        raise TypeError(msg)


def policy_of(session: AsyncSession) -> Policy:
    """Return the policy of calls that have none of their own."""
    policy: Any = session.sync_session.info.get(_POLICY, DEFAULT_POLICY)
    if not isinstance(policy, Policy):
        msg = (
            f"session.info[{_POLICY!r}] is {policy!r}; give a Policy, as in "
            f"async_sessionmaker(engine, info={{{_POLICY!r}: Policy()}})"
        )
        raise TypeError(msg)
    return policy
