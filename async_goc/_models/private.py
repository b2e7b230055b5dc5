"""Every private name of SQLAlchemy that this package uses, and how it does without it.

SQLAlchemy may rename any of them in a release. So each is looked for where it is used,
by the name in the constant above the function, and a test runs the fallback by changing
that constant. Where a public way exists it is taken: ``after_begin`` tells which
connections a session holds, ``as_generic()`` what kind of type a column has.
"""

from collections.abc import Generator, Iterable, MutableMapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

# SQLAlchemy numbers the SAVEPOINTs of a connection, and asyncpg prepares each statement
# that it has not seen before: one round trip more for SAVEPOINT and one for RELEASE,
# and two places in its cache. There is no public way to choose a SAVEPOINT's name.
# Without it, nothing but those round trips is lost.
SAVEPOINT_COUNT = "_Connection__savepoint_seq"

# What a flush ends with: pending objects become persistent, the session's events of
# that are sent, and a rollback makes the objects transient again. There is no public
# way to say that a row was inserted without a flush. Without it, only flushes insert.
REGISTER_PERSISTENT = "_register_persistent"

# The objects that are new in a transaction, which its rollback makes transient again.
# Rows that an INSERT … RETURNING has loaded are not among them, and there is no public
# way to add them. Without it, only flushes insert.
NEW_IN_TRANSACTION = "_new"

# What a flush does to an object's values: they are the database's from now on. There is
# no public way to say so of a new object, nor to say which session has it: `session_id`
# and `hash_key` are not documented. Without it, each one is pending first.
COMMIT_VALUES = "_commit_all"

# The isolation level that ``create_engine()`` was given. Until there is a connection,
# no public name has it. Without it, an engine in AUTOCOMMIT is not known before the
# database refuses a SAVEPOINT.
LEVEL_ON_CONNECT = "_on_connect_isolation_level"

# The lock that the adapter of an asyncio driver holds during a statement. No public
# name tells that one is under way, unless the driver has one. Without it, a deadlock
# that leads through a queue of this package is ended by `wait_timeout` only.
STATEMENT_LOCK = "_execute_mutex"

# Whether the session is flushing, which a get_bind() of its own may go by, as in the
# documentation of SQLAlchemy. There is no public way to ask it where a flush would go.
# Without it, a session that goes by nothing else looks again where it has looked.
FLUSHING = "_flushing"

# The listeners of a target's class, which may be added and removed at any time. There
# is a public way to ask whether there are any, but it takes a function call for each of
# some 40 events. Without it, that is what it takes.
LISTENERS_OF_CLASS = "parent_listeners"


# Whether an engine, or its dialect, has ever had a listener. The public ways ask for
# each event, which takes a call that asks for one row longer than the rest. Without it,
# that is what happens.
HAS_EVENTS = "_has_events"


# What the adapter of asyncpg names its prepared statements by; the engine may be given
# such a function because of a pooler, and no public name has it. Without it, a direct
# lane prepares statements under the driver's own names, which can meet those of another
# client of that pooler.
STATEMENT_NAMES = "_prepared_statement_name_func"

# The statements that the adapter of asyncpg has prepared, and keeps; no public name
# tells whether it keeps any. Without it, a check does not say that a pooler may lose
# them where the driver itself keeps none.
STATEMENT_CACHE = "_prepared_statement_cache"


def has_statement_names(adapted: object) -> bool:
    """Whether the driver's prepared statements are to have names of the caller's."""
    name: Any = getattr(adapted, STATEMENT_NAMES, None)
    return name is not None and name() is not None


def has_statement_cache(adapted: object) -> bool:
    """Whether SQLAlchemy keeps the statements that the driver has prepared for it."""
    return getattr(adapted, STATEMENT_CACHE, None) is not None


def may_have_listeners(engine: Engine) -> bool:
    """Whether anything may listen to what the engine executes."""
    return bool(
        getattr(engine, HAS_EVENTS, True) or getattr(engine.dialect, HAS_EVENTS, True)
    )


def level_on_connect(dialect: Dialect) -> str | None:
    """Return the isolation level that the engine gives to its connections."""
    return getattr(dialect, LEVEL_ON_CONNECT, None)


@contextmanager
def as_flushing(session: Session) -> Generator[None]:
    """Let the session seem to be flushing."""
    before = getattr(session, FLUSHING, False)
    setattr(session, FLUSHING, True)
    try:
        yield
    finally:
        setattr(session, FLUSHING, before)


def savepoint_count(connection: Connection) -> int | None:
    """Return what the name of the connection's next SAVEPOINT is made from."""
    return getattr(connection, SAVEPOINT_COUNT, None)


def reset_savepoint_count(connection: Connection, count: int | None) -> None:
    """Let the next SAVEPOINT have the name that it had at that count."""
    if count is not None:
        setattr(connection, SAVEPOINT_COUNT, count)


def is_executing(connection: Connection) -> bool:
    """Whether a statement is under way on the connection, as far as can be told."""
    if connection.closed or connection.invalidated:
        return False
    adapted: Any = connection.connection.dbapi_connection
    lock = getattr(adapted, STATEMENT_LOCK, None)
    if lock is not None and lock.locked():
        return True
    # psycopg tells it itself.
    info = getattr(connection.connection.driver_connection, "info", None)
    status = getattr(info, "transaction_status", None)
    return getattr(status, "name", None) == "ACTIVE"


def can_register(session: Session) -> bool:
    """Whether the two functions below work: the session must be in a transaction."""
    transaction = session.get_transaction()
    has_new = transaction is None or hasattr(transaction, NEW_IN_TRANSACTION)
    return has_new and hasattr(session, REGISTER_PERSISTENT)


def register_pending(session: Session, instance: object) -> None:
    """Make a pending instance persistent, and new in the transaction."""
    getattr(session, REGISTER_PERSISTENT)({instance_state(instance)})


def may_skip_pending(session: Session, instance: object) -> bool:
    """Whether a new object can be made persistent without being pending before."""
    state: Any = instance_state(instance)
    return (
        hasattr(state, COMMIT_VALUES)
        and state.session_id is None  # A listener to `init` may have added it.
        and type(session).add is Session.add
    )


def register_inserted(session: Session, instance: object, key: Any) -> None:
    """Make an instance persistent that has not been pending, and new as above."""
    state: Any = instance_state(instance)
    # It fails if the session has been closed.
    _new_in_transaction(session)[state] = True
    state.key, state.session_id = key, session.hash_key
    session.identity_map.replace(state)
    getattr(state, COMMIT_VALUES)(state.dict, session.identity_map)


def register_loaded(session: Session, instances: Iterable[object]) -> None:
    """Make persistent instances, loaded from their INSERT, new in the transaction."""
    new = dict.fromkeys(map(instance_state, instances), True)
    _new_in_transaction(session).update(new)


def _new_in_transaction(session: Session) -> MutableMapping[Any, bool]:
    transaction = session.get_nested_transaction() or session.get_transaction()
    found: MutableMapping[Any, bool] = getattr(transaction, NEW_IN_TRANSACTION)
    return found


def listeners_of_class(collection: Any) -> Any:
    """Return the listeners of the target's class; None: it cannot be told."""
    return getattr(collection, LISTENERS_OF_CLASS, None)


def class_listeners(collection: Any) -> Iterable[Any]:
    """Return the collections that *collection* puts together, whose lengths change."""
    listed = listeners_of_class(collection)
    if listed is None:
        return [collection]
    own: Any = collection.listeners
    return [listed] if isinstance(own, tuple) else [listed, own]
