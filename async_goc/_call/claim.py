"""Keep calls of other tasks off a session while one is using it."""

from asyncio import Task, current_task
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from .._locks import Owner
from .routing import GET_BIND, send_anywhere

_KEY: Final = "async_goc.call"


class Claim:
    """A call's claim on its session.

    Tasks that begin inside the call, and callbacks of drivers, keep a copy of its
    context, perhaps for ever. So a claim leads to no session and to no model.
    """

    is_running = True
    # The claim of the call around this one: in the same session, and in the same task.
    outer: "Claim | None" = None
    around: "Claim | None" = None
    # Whoever holds keys for this call, once it has asked for any.
    owner: Owner | None = None
    # Of a look alone: its task, in which a listener may call again.
    task: "Task[Any] | None" = None


# The innermost call that this task is inside of, in any session. A context variable,
# not the task itself: a factory may await a nested call in a task of its own
# (asyncio.wait_for does, on Python 3.11), and that task inherits the context.
_claim: ContextVar[Claim | None] = ContextVar("async_goc_claim", default=None)


def _running(claim: Claim | None) -> Claim | None:
    """Return the innermost claim, from this one on, whose call has not ended."""
    while claim is not None and not claim.is_running:
        claim = claim.around
    return claim


def claims() -> Iterator[Claim]:
    """Yield the claims of the calls that this task is inside of, from the innermost."""
    claim = _running(_claim.get())
    while claim is not None:
        yield claim
        claim = _running(claim.around)


def claim_session(session: Session) -> Claim:
    """Keep calls of other tasks off the session, until it is left.

    Raises InvalidRequestError if such a call is using it. Nested calls may run.
    """
    info, around = session.info, _running(_claim.get())
    if around is not None:
        # Each call may start the next one's task, and end before that does.
        around.around = _running(around.around)
    outer: Claim | None = info.get(_KEY)
    if outer is not None and not _is_around(outer):
        msg = (
            "this AsyncSession is in use by a call in another task; "
            "give each task a session of its own"
        )
        raise InvalidRequestError(msg)
    info[_KEY] = claim = Claim()
    if outer is not None:
        claim.outer = outer
    if around is not None:
        claim.around = around
    _claim.set(claim)
    return claim


def _is_around(claim: Claim) -> bool:
    task = claim.task
    return claim in claims() if task is None else task is current_task()


def claim_for_look(session: Session) -> Claim:
    """Do the same for a look; nested calls may run in the same task."""
    info = session.info
    if info.get(_KEY) is not None:
        return claim_session(session)
    # To change the context would take longer.
    info[_KEY] = claim = Claim()
    claim.task = current_task()
    return claim


def leave_session(session: Session, claim: Claim) -> None:
    """Let calls of other tasks use the session again."""
    # The claim stays in its context: the garbage collector may close a call while any
    # other task runs, in a context of that task's.
    claim.is_running, claim.task = False, None
    # A nested call in a task of its own may end after the outer one.
    innermost: Claim | None = session.info.get(_KEY)
    while innermost is not None and not innermost.is_running:
        innermost = innermost.outer
    session.info[_KEY] = innermost
    if innermost is None and GET_BIND in session.__dict__:
        send_anywhere(session)
