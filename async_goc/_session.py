"""Get the caller's session ready for a guard, and keep a second task out of it."""

from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import StaticPool
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper

from ._owner import Owner
from ._warn import warn_caller
from .exceptions import SqliteTransactionWarning

_KEY: Final = "async_goc.call"

# Engines that have been warned about. Written on the event loop's thread, only
# ever grows while the engine lives; a lost race between two threads warns twice.
_warned: WeakSet[Engine] = WeakSet()


def resolve(session: AsyncSession | async_scoped_session[AsyncSession]) -> AsyncSession:
    """Return the session itself.

    Raises:
        TypeError: It is no AsyncSession.
    """
    found: Any = session() if isinstance(session, async_scoped_session) else session
    if not isinstance(found, AsyncSession):
        msg = (
            f"session is {found!r}; pass a sqlalchemy.ext.asyncio.AsyncSession "
            "or async_scoped_session"
        )
        raise TypeError(msg)
    return found


class alone:  # noqa: N801 - it reads like what it does: with alone(session)
    """A call under way: keeps other tasks' calls off its session; nested ones may run.

    Args:
        session: The session.

    Attributes:
        outer: The call that it runs inside of, on the same session.
        is_running: Whether it has not ended.
        owner: Who holds its key, if it has taken one.

    Raises:
        sqlalchemy.exc.InvalidRequestError: Another task's call is using it.
    """

    __slots__ = ("_around", "_info", "is_running", "outer", "owner")

    def __init__(self, session: AsyncSession) -> None:
        self._info = session.info
        self._around = _calls.get()
        self.outer: alone | None = self._info.get(_KEY)
        self.is_running = True
        self.owner: Owner | None = None
        if self.outer is not None and self.outer not in self._around:
            msg = (
                "this AsyncSession is in use by a call in another task; "
                "give each task a session of its own"
            )
            raise InvalidRequestError(msg)

    def __enter__(self) -> None:
        self._info[_KEY] = self
        _calls.set((*self._around, self))

    def __exit__(self, *_: object) -> None:
        # Not ContextVar.reset(): a generator may be closed in another context.
        _calls.set(self._around)
        self.is_running = False
        # A nested call in a task of its own may end after the outer one.
        innermost: alone | None = self._info.get(_KEY)
        while innermost is not None and not innermost.is_running:
            innermost = innermost.outer
        self._info[_KEY] = innermost


# The calls that this task is inside of. A context variable, not the task itself:
# a factory may await a nested call in a task of its own (asyncio.wait_for does, on
# Python 3.11), and that task inherits the context.
_calls: ContextVar[tuple[alone, ...]] = ContextVar("async_goc_calls", default=())


def note_owner(owner: Owner) -> None:
    """Note that *owner* holds the key of this task's innermost call."""
    _calls.get()[-1].owner = owner


def owners_around() -> list[Owner]:
    """Return those whose calls this task is inside of: they wait for it to go on."""
    calls = (call for call in _calls.get() if call.is_running)
    return [call.owner for call in calls if call.owner is not None]


def dialect_of(session: AsyncSession, mapper: Mapper[Any]) -> Dialect:
    """Return the dialect of the database that *mapper*'s rows go to."""
    return session.get_bind(mapper).dialect


async def flush(session: AsyncSession) -> bool:
    """Write the caller's pending changes, so that they fail as the caller's.

    Returns:
        Whether there were any, so that a look before it may be out of date.
    """
    if not (session.new or session.deleted or session.dirty):
        return False
    await session.flush()
    return True


async def settle(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Make sure that a SAVEPOINT undoes what comes after it, and nothing else.

    Returns:
        Whether anything was done, so that a look before it may be out of date.
    """
    is_sqlite = dialect_of(session, mapper).name == "sqlite"
    has_begun = is_sqlite and await _begin_immediate(session, mapper)
    return await flush(session) or has_begun


async def _begin_immediate(session: AsyncSession, mapper: Mapper[Any]) -> bool:
    """Begin a real transaction where sqlite3 runs in its legacy mode.

    That mode begins none before SELECT and SAVEPOINT; releasing an outermost
    SAVEPOINT is then a COMMIT, which no rollback undoes. IMMEDIATE takes the write
    lock now: a deferred transaction that has read fails at once when it turns to
    writing after somebody else has written.
    """
    connection = await session.connection(bind_arguments={"mapper": mapper})
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    engine = connection.sync_engine
    if isinstance(engine.pool, StaticPool):
        _warn(
            engine,
            "all sessions share this SQLite engine's one connection (StaticPool), "
            "so a rollback in one undoes the others' work",
            "use a database file, for tests in a temporary folder",
        )
    if driver.in_transaction:
        return False
    # Without isolation_level nothing begins by itself: AUTOCOMMIT.
    if driver.isolation_level is None:
        _warn(
            engine,
            "this SQLite engine is in AUTOCOMMIT, so no rollback undoes a created row",
            "leave isolation_level out, or call async_goc.sqlite.configure(engine)",
        )
        return False
    await connection.exec_driver_sql("BEGIN IMMEDIATE")
    return True


def _warn(engine: Engine, reason: str, remedy: str) -> None:
    if engine not in _warned:
        _warned.add(engine)
        warn_caller(SqliteTransactionWarning(reason, remedy))
