"""Get the caller's session ready for a guard, and keep a second task out of it."""

from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

from .._locks import Owner

_KEY: Final = "async_goc.call"


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
