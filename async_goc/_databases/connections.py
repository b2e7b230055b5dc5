"""Know which connections a session holds, without asking it for one."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from sqlalchemy import Connection, Engine, StaticPool, event
from sqlalchemy.orm import Session, SessionTransaction

from .line import is_in_transaction
from .writer import find_writer

_KEY: Final = "_async_goc"
_MAP: Final = "schema_translate_map"
_LEVEL: Final = "isolation_level"
_NO_OPTIONS: Final[Mapping[str, Any]] = {}


# ``Session.connection()`` answers by taking a connection from the pool. So each root
# transaction, which holds its connections anyway, is given a list of them. One listener
# serves all sessions of the process, because adding one to each session would cost more
# than everything else that a call does there. It comes first, because a listener of the
# caller's may raise, and the connection is in use all the same. A connection that was
# taken before this package was imported is not known: its session queues as if it had
# none.
@event.listens_for(Session, "after_begin", insert=True)
def _note(_: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        transaction.__dict__.setdefault(_KEY, []).append(connection)
        pool = connection.engine.pool
        if isinstance(pool, StaticPool):
            pool.__dict__.setdefault(_KEY, WeakSet()).add(connection)


def connections_of(session: Session) -> Sequence[Connection]:
    """Return the connections that the session uses, or is bound to."""
    transaction = session.get_transaction()
    if transaction is not None:
        held: Sequence[Connection] = transaction.__dict__.get(_KEY, ())
        if held:
            return held
    bind = session.bind
    # Most have an engine, and to find that it is nothing else takes a while.
    if isinstance(bind, Engine) or not isinstance(bind, Connection):
        return ()
    return (bind,)


def options_of(session: Session) -> Mapping[str, Any]:
    """Return the options that the session gives to its connections."""
    # It has some since SQLAlchemy 2.1.
    return getattr(session, "execution_options", _NO_OPTIONS)


def isolation_level_of(session: Session, bind: Engine | Connection) -> str | None:
    """Return the isolation level that was asked for, but for the engine's own."""
    for connection in connections_of(session):
        if connection.engine is bind:
            return connection.get_execution_options().get(_LEVEL)
    options = options_of(session)
    return options.get(_LEVEL) or bind.get_execution_options().get(_LEVEL)


def schemas_of(
    session: Session, bind: Engine | Connection
) -> Mapping[str | None, str | None]:
    """Return the ``schema_translate_map`` in force for *bind*."""
    for connection in connections_of(session):
        if connection.engine is bind:
            return connection.get_execution_options().get(_MAP) or {}
    options = options_of(session)
    return options.get(_MAP) or bind.get_execution_options().get(_MAP) or {}


def is_shared(connection: Connection) -> bool:
    """Whether other sessions are at work on the only connection of the pool."""
    users: WeakSet[Connection] = connection.engine.pool.__dict__.get(_KEY, WeakSet())
    return any(each is not connection and each.in_transaction() for each in set(users))


def is_in_file(connection: Connection) -> bool:
    """Whether it is in a transaction in SQLite, and so may hold the file's lock."""
    if connection.closed or connection.invalidated:
        return False
    pooled, writer = connection.connection, find_writer(connection.engine)
    is_anothers = writer is not None and writer.is_anothers(pooled)
    return is_in_transaction(pooled) and not is_anothers
