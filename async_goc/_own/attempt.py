"""Run a transaction once, and say whether it may be run again."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final, Generic, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from .._call import Event, Outcome, database_of, listener, policy_of, tell
from .._databases import asks_to_run_again, has_lost_connection, is_answer
from ..exceptions import OutcomeUnknownError, SnapshotConflictError
from .closing import close
from .commits import Commits

S = TypeVar("S", bound=AsyncSession)
R = TypeVar("R")

_VERB: Final = "run_in_transaction"
_UNKNOWN: Final = (
    "The COMMIT had been sent, and it is not known whether it took effect; look before "
    "you run the transaction again."
)
_COMMITTED: Final = "The transaction had been committed before that."
_CALLERS: Final = (
    "It was not run again, because the session's connection was in a transaction that "
    "began before; run that one again."
)
_PARTLY_COMMITTED: Final = (
    "It was not run again, because some of its work may have been committed already; "
    "see what of it is there."
)


class Attempt(Generic[S]):
    """One session, its transaction, and what became of it."""

    def __init__(self, session: S, number: int) -> None:
        self._session = session
        self._number = number
        self._policy = policy_of(session)
        self._commits = Commits(session.sync_session)
        self._is_committed = False
        self._is_harmless = False
        self._started = perf_counter()

    async def run(
        self, work: Callable[[S], Awaitable[R]], is_harmless: Callable[[R], bool]
    ) -> R:
        """Run *work*, commit, and close the session."""
        session = self._session
        try:
            result = await work(session)
            self._is_harmless = is_harmless(result)
            if session.in_transaction():
                await self._commit()
            self._is_committed = True
        except GeneratorExit:
            raise  # Nothing can be awaited here any more, not even the end.
        except BaseException:
            await close(session, has_failed=True)
            raise
        else:
            await close(session, has_failed=False)
        finally:
            self._commits.forget()
        return result

    async def _commit(self) -> None:
        try:
            await self._session.commit()
        except BaseException:
            self._commits.note_answers()
            raise

    def may_be_repeated(self, error: BaseException, *, is_idempotent: bool) -> bool:
        """Whether another attempt makes sense, and does no harm.

        Raises OutcomeUnknownError where only the caller can say.
        """
        commits = self._commits
        if not isinstance(error, Exception):
            if commits.is_unknown:
                error.add_note(_UNKNOWN)
            elif self._is_committed:
                error.add_note(_COMMITTED)
            return False
        is_idempotent = is_idempotent or self._is_harmless
        is_unknown = commits.is_partial or (commits.is_unknown and not is_answer(error))
        if is_unknown and not is_idempotent:
            unknown = OutcomeUnknownError("COMMIT", self._number, commits.is_partial)
            raise unknown from error
        if not (is_unknown or _is_passing(error)):
            return False
        if commits.is_callers:
            error.add_note(_CALLERS)
            return False
        if commits.has_committed and not is_idempotent:
            error.add_note(_PARTLY_COMMITTED)
            return False
        return True

    def report(self, error: BaseException, model: type[object]) -> None:
        """Tell the observer of the session's policy, if there is one."""
        observer = listener(self._policy.observer)
        if observer is not None:
            event = Event(
                verb=_VERB,
                model=model,
                outcome=Outcome.FAILED,
                strategy=self._policy.strategy,
                attempts=self._number,
                waited=0.0,
                elapsed=perf_counter() - self._started,
                error=error,
                rows=0,
                database=database_of(self._session.sync_session, model),
            )
            tell(observer, event)


def _is_passing(error: Exception) -> bool:
    """Whether the same work may succeed in another transaction."""
    if isinstance(error, DBAPIError):
        return asks_to_run_again(error) or has_lost_connection(error)
    return isinstance(error, SnapshotConflictError)
