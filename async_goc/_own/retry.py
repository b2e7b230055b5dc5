"""Run a whole transaction again when the database asks for it."""

import random
from collections.abc import Awaitable, Callable
from logging import getLogger
from typing import Any, Final, TypeVar, TypeVarTuple

import anyio
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from .._call import check_loop, check_number, check_type
from .._databases import code_of
from .attempt import Attempt

S = TypeVar("S", bound=AsyncSession)
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_log: Final = getLogger("async_goc")
ATTEMPTS: Final = "a whole number of attempts, at least 1"
SESSIONS: Final = "an async_sessionmaker, which makes a new session for each attempt"
_WORK: Final = "a coroutine function that takes a session, and then the other arguments"
# Seconds. The longest pause doubles from attempt to attempt, up to a limit; and the
# pause is anything between nothing and that, so that rivals that have met once do not
# meet again.
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0


async def run_in_transaction(
    sessions: async_sessionmaker[S],
    work: Callable[[S, *Ts], Awaitable[R]],
    /,
    *args: *Ts,
    attempts: int = 5,
    is_idempotent: bool = False,
) -> R:
    """Run ``await work(session, *args)`` in a transaction, and commit it.

    Each attempt has a new session, which is closed afterwards. Where the database asks
    for it, the transaction is rolled back and the whole of *work* is run again: after
    a serialization failure, a deadlock, a lock that was not to be had in time (MySQL,
    MariaDB, SQLite), :exc:`~async_goc.exceptions.SnapshotConflictError`, and where the
    connection ended before the COMMIT. Between two attempts it waits for a random
    time: up to 10 milliseconds at first, then twice as much each time, up to a second.

    So *work* should do nothing but what a rollback undoes, and should get its session
    from here. Whatever else it raises passes through, after a rollback. What it
    returns is returned; give the sessions ``expire_on_commit=False`` if that has
    instances in it. If *work* commits by itself, nothing is run again after that.

    Never run again by itself is a transaction whose COMMIT may have taken effect,
    because the connection ended before the database's answer.

    Args:
        sessions: Makes the session of each attempt.
        work: A coroutine function that takes the session and *args*.
        *args: Passed on to *work*.
        attempts: How often *work* is run at most, the first time included.
        is_idempotent: Whether running *work* again does no harm even if it has been
            committed. Then it is, where it is not known whether it was.

    Returns:
        What *work* has returned.

    Raises:
        OutcomeUnknownError: The COMMIT may have taken effect, or not.
        SnapshotConflictError: As *work* raised it at the last attempt.
        TypeError: An argument is of the wrong type.
        ValueError: *attempts* is less than 1.
        RuntimeError: No event loop of asyncio is running.
        sqlalchemy.exc.DBAPIError: The last attempt's error, unchanged, with a note of
            how many there were; or one that another attempt would not help.
        Exception: Whatever else *work* raises.
    """
    check_number("attempts", attempts, int, 1, ATTEMPTS)
    check_loop()
    given: Any = sessions
    check_type("sessions", given, isinstance(given, async_sessionmaker), SESSIONS)
    check_type("work", work, callable(work), _WORK)
    how: Any = {"attempts": attempts, "is_idempotent": is_idempotent}
    return await run(sessions, lambda session: work(session, *args), **how)


def is_never_harmless(_: object) -> bool:
    """Say of any result that something may have been written."""
    return False


async def run(
    make_session: Callable[[], S],
    work: Callable[[S], Awaitable[R]],
    *,
    attempts: int,
    is_idempotent: bool = False,
    is_harmless: Callable[[R], bool] = is_never_harmless,
    model: type[object] = object,
) -> R:
    """Run *work* as :func:`run_in_transaction` does; *model* is for the observer.

    Where *is_harmless*, given the result of *work*, says that nothing was written, it
    may be run again whatever became of the COMMIT.
    """
    number = 0
    while True:
        number += 1
        attempt = Attempt(make_session(), number)
        try:
            return await attempt.run(work, is_harmless)
        except BaseException as error:
            if not attempt.may_be_repeated(error, is_idempotent=is_idempotent):
                raise
            attempt.report(error, model)
            if number == attempts:
                error.add_note(f"The transaction was run {_times(number)}, in vain.")
                raise
            pause = _pause_after(number)
            _log.info(
                "attempt %d of %d at a transaction failed (%s); it is run again in "
                "%.3f seconds",
                number,
                attempts,
                _label(error),
                pause,
            )
        await anyio.sleep(pause)


def _pause_after(number: int) -> float:
    """Return how many seconds to wait before the next attempt."""
    # Beyond that exponent, the limit holds anyway, and a float would not.
    longest = min(_FIRST_PAUSE * 2 ** min(number - 1, 10), _LONGEST_PAUSE)
    return random.uniform(0, longest)  # noqa: S311 - nobody has to guess it


def _label(error: BaseException) -> str | int:
    """Name the error without its message, which may have values in it."""
    code = code_of(error) if isinstance(error, DBAPIError) else None
    return type(error).__name__ if code is None else code


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
