"""Send one statement past SQLAlchemy's execution, in autocommit, and get plain rows.

Each statement is its own transaction, on a connection of SQLAlchemy's pool. Nothing is
translated here: a caller who is refused asks again by SQLAlchemy, whose answer, or
error, is then the right one.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import anyio
from sqlalchemy import AsyncAdaptedQueuePool, Engine, PoolProxiedConnection, exc
from sqlalchemy.engine import Dialect
from sqlalchemy.util import greenlet_spawn

Rows = Sequence[Any]

# What is said where a call is cancelled, and its statement may have been executed.
CANCELLED: Final = (
    "this was cancelled while an INSERT was on its way, so the row may be there; look "
    "it up to know"
)


class NoAnswerError(Exception):
    """The database has refused the statement, or has never seen it."""

    @property
    def is_about_values(self) -> bool:
        """Whether other values may fare better."""
        # SQLSTATE: data exceptions, violations of constraints, what triggers raise. An
        # error of the driver's own has none, and is about a value that it cannot send.
        return _state_of(self) in {"", "22", "23", "P0"}

    @property
    def is_lasting(self) -> bool:
        """Whether the statement would be refused again, whatever the values."""
        is_known = self.is_about_values or self.is_passing
        return not is_known and _state_of(self) != ""

    @property
    def is_passing(self) -> bool:
        """Whether the database lacked resources, or the statement patience."""
        return _state_of(self) in {"08", "40", "53", "55", "57"}


def _state_of(error: NoAnswerError) -> str:
    """Return the class of the driver's error; an error of its own has none."""
    code: str | None = getattr(error.__cause__, "sqlstate", None)
    return (code or "")[:2]


class NoConnectionError(NoAnswerError):
    """There is no connection to send the statement on."""

    @property
    def is_about_values(self) -> bool:
        """Whether other values may fare better: none do."""
        return False


class NoLaneError(NoConnectionError):
    """The engine's connections are to be used by SQLAlchemy only."""


class SeveredError(Exception):
    """The connection broke, and nobody knows what the database has done."""


@dataclass(slots=True, eq=False)
class Wire:
    """A statement as the driver takes it."""

    text: str
    # The names of the parameters, for a driver that takes a mapping of them.
    names: Sequence[str] | None
    # Whether a connection, as SQLAlchemy adapts it, is to have no statement prepared
    # but by SQLAlchemy.
    is_refused_by: Callable[[object], bool]
    # What the driver says of the type of each column; None: nothing has come yet.
    types: Sequence[Any] | None = None


# What a lane does with a pooled connection, inside a greenlet of SQLAlchemy's.
Send = Callable[[Dialect, PoolProxiedConnection, Wire, Sequence[Any]], Rows]


@dataclass(frozen=True, slots=True)
class Lane:
    """A way to a database past SQLAlchemy's execution."""

    name: str
    send: Send
    # Whether an error has left nothing behind, and the connection can be used again.
    is_alive: Callable[[Dialect, PoolProxiedConnection, BaseException], bool]


def fetch(
    lane: Lane, engine: Engine, wire: Wire, values: Sequence[Any]
) -> Awaitable[Rows]:
    """Execute the statement as a transaction of its own; return its rows.

    Raises NoAnswerError where nothing has happened, and SeveredError where that is not
    known; both are chained to the driver's error.
    """
    return greenlet_spawn(send_on_connection, lane, engine, lane.send, wire, values)


def send_on_connection(
    lane: Lane, engine: Engine, send: Callable[..., Rows], *args: Any
) -> Rows:
    """Let *send* use a connection of the pool; inside a greenlet of SQLAlchemy's."""
    try:
        pooled = engine.raw_connection()
    except exc.TimeoutError:
        raise  # SQLAlchemy would say the same, and after as long a time again.
    except Exception as error:
        raise NoConnectionError from error
    try:
        rows = send(engine.dialect, pooled, *args)
    except GeneratorExit:
        raise  # Garbage cannot wait any more, and the pool finds its connection.
    except BaseException as error:
        is_alive = lane.is_alive(engine.dialect, pooled, error)
        # In a cancelled scope of anyio's, SQLAlchemy would never come to an end here.
        with shielded():
            if not is_alive:
                pooled.invalidate(error)
            pooled.close()
        if not isinstance(error, Exception) or isinstance(error, NoAnswerError):
            raise
        raise (NoAnswerError if is_alive else SeveredError) from error
    if _has_room(engine):
        pooled.close()
    else:
        with shielded():
            pooled.close()
    return rows


def shielded() -> AbstractContextManager[object]:
    """Keep what anyio cancels from disturbing the greenlets of SQLAlchemy's."""
    return anyio.CancelScope(shield=True)


def _has_room(engine: Engine) -> bool:
    """Whether a connection is given back to the pool without another `await`."""
    # A scope takes longer than all the rest of this, so it is spared where it can be.
    pool = engine.pool
    return type(pool) is AsyncAdaptedQueuePool and pool.overflow() <= 0
