"""Undo what a test has committed."""

from collections.abc import AsyncGenerator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from functools import partial
from typing import Any, TypeVar, overload

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from .._databases import refuse_without_transaction
from .._lookup import is_in_autocommit
from .nesting import JoiningSession, Nesting

S = TypeVar("S", bound=AsyncSession)


@overload
def rolled_back(
    engine: AsyncEngine,
) -> AbstractAsyncContextManager[async_sessionmaker[AsyncSession]]: ...


@overload
def rolled_back(
    engine: AsyncEngine, *, class_: type[S]
) -> AbstractAsyncContextManager[async_sessionmaker[S]]: ...


@asynccontextmanager
async def rolled_back(
    engine: AsyncEngine, *, class_: type[AsyncSession] = AsyncSession
) -> AsyncGenerator[async_sessionmaker[Any]]:
    """Give sessions whose work is rolled back at the end, commits and all.

    The sessions join one transaction, on one connection: each works inside a SAVEPOINT,
    so that its commit and its rollback reach no further than to where it began, and the
    next session sees what the one before has committed. At the end, whatever happened,
    sessions that are still open are closed, and all is undone. It does not undo what a
    database never does: sequences that have advanced, and on MariaDB and MySQL, CREATE
    TABLE and the like, which commit.

    One connection does one thing at a time. So the sessions are for use one after the
    other, or one inside another: what begins last has to end first, or a commit is an
    :exc:`~sqlalchemy.exc.InvalidRequestError`. Races need connections of their own, and
    real commits: give them sessions of the engine.

    The sessions do not expire their objects on commit. Configure them as your own are:
    ``sessions.configure(info={"async_goc.policy": Policy(...)})``.

    Example:
        >>> @pytest.fixture
        ... async def sessions(engine):
        ...     async with rolled_back(engine) as sessions:
        ...         yield sessions

    Args:
        engine: The engine that has the database. One for SQLite has to begin real
            transactions, as :func:`async_goc.sqlite.configure` makes it do.
        class_: The class of the sessions, as ``async_sessionmaker`` takes it: that of
            SQLModel, for example, whose sessions have ``exec()``.

    Yields:
        What makes the sessions.

    Raises:
        TypeError: The engine cannot roll back, because it is in AUTOCOMMIT, or because
            its driver begins no transaction before a SAVEPOINT; or it is no
            :class:`~sqlalchemy.ext.asyncio.AsyncEngine`.
    """
    given: Any = engine
    if not isinstance(given, AsyncEngine):
        msg = f"engine is of type {type(given).__name__}; give an AsyncEngine"
        raise TypeError(msg)
    nesting = Nesting()
    # Closing the connection rolls back.
    async with engine.connect() as connection:
        await connection.begin()
        bases = (JoiningSession, class_.sync_session_class)
        joining: Any = partial(type("JoiningSession", bases, {}), nesting)
        sessions = async_sessionmaker(
            connection,
            class_=class_,
            expire_on_commit=False,
            join_transaction_mode="create_savepoint",
            sync_session_class=joining,
        )
        _check(connection, sessions)
        try:
            yield sessions
        finally:
            await _close(nesting)


def _check(
    connection: AsyncConnection, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """Refuse an engine whose rollback undoes nothing."""
    own = connection.sync_connection
    assert own is not None  # noqa: S101 - it is connected
    if is_in_autocommit(sessions().sync_session, own.engine):
        msg = (
            f"{own.engine!r} is in AUTOCOMMIT, where each statement is committed at "
            "once, so a rollback undoes nothing; give an engine without that isolation "
            "level"
        )
        raise TypeError(msg)
    refuse_without_transaction(own)


async def _close(nesting: Nesting) -> None:
    """Close the sessions that are open still; what they hold is then released."""
    async with AsyncExitStack() as stack:
        for session in nesting.sessions():
            stack.push_async_callback(_close_one, session)


async def _close_one(session: Session) -> None:
    # Its SAVEPOINT may be gone, and the test's own error must not be replaced.
    with suppress(DBAPIError):
        await greenlet_spawn(session.close)
