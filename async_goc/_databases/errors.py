"""Tell by its code what a database error means: a lost race, or another attempt."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, slots=True)
class Codes:
    """What has one meaning, and a code of its own in each driver."""

    # asyncpg and psycopg: SQLSTATE, or its first two characters, which are its class.
    sqlstates: frozenset[str] = frozenset()
    # aiosqlite: result codes; the lowest byte of an extended one is its primary code.
    results: frozenset[int] = frozenset()
    # asyncmy and aiomysql: error numbers. One SQLSTATE of theirs, such as 23000, stands
    # for many things.
    errnos: frozenset[int] = frozenset()

    def __contains__(self, error: DBAPIError) -> bool:
        cause = error.orig
        result = getattr(cause, "sqlite_errorcode", None)
        if result is not None:
            return result in self.results or result & 0xFF in self.results
        # Before the SQLSTATE, which such an error has as well.
        errno = _errno(error)
        if errno is not None:
            return errno in self.errnos
        sqlstate = getattr(cause, "sqlstate", None) or ""
        return sqlstate in self.sqlstates or sqlstate[:2] in self.sqlstates


_DUPLICATE: Final = Codes(
    # unique_violation, exclusion_violation.
    sqlstates=frozenset({"23505", "23P01"}),
    # SQLITE_CONSTRAINT_PRIMARYKEY, _UNIQUE, _ROWID.
    results=frozenset({1555, 2067, 2579}),
    # ER_DUP_ENTRY, ER_DUP_ENTRY_WITH_KEY_NAME.
    errnos=frozenset({1062, 1586}),
)
_RETRY: Final = Codes(
    # serialization_failure, deadlock_detected.
    sqlstates=frozenset({"40001", "40P01"}),
    # SQLITE_BUSY, SQLITE_LOCKED.
    results=frozenset({5, 6}),
    # ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT, ER_CHECKREAD; and ER_UNKNOWN_COM_ERROR, by
    # which a node of Galera refuses whatever comes while it has lost the others.
    errnos=frozenset({1213, 1205, 1020, 1047}),
)
# The transaction had failed before, and the error before says why.
_CONSEQUENCE: Final = Codes(
    # in_failed_sql_transaction.
    sqlstates=frozenset({"25P02"}),
    # ER_SP_DOES_NOT_EXIST: a deadlock has ended the transaction, with its savepoints.
    errnos=frozenset({1305}),
)
# The whole transaction has been rolled back, with all SAVEPOINTs.
_END: Final = Codes(
    # ER_LOCK_DEADLOCK, ER_CHECKREAD.
    errnos=frozenset({1213, 1020}),
)
# ER_CHECKREAD: MariaDB's snapshot is older than the row that was to be locked.
_CHANGED: Final = Codes(errnos=frozenset({1020}))
# The connection has ended, whatever it was doing.
_LOST: Final = Codes(
    # connection_exception; statement_completion_unknown; admin_shutdown and its
    # siblings; idle_in_transaction_session_timeout, transaction_timeout.
    sqlstates=frozenset(
        {"08", "40003", "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"}
    ),
    # Whatever the client has found; and ER_SERVER_SHUTDOWN, ER_CONNECTION_KILLED,
    # ER_SESSION_WAS_KILLED, ER_CLIENT_INTERACTION_TIMEOUT.
    errnos=frozenset({0, *range(2000, 3000), 1053, 1927, 3169, 4031}),
)
_LOCK_TIMEOUT: Final = Codes(
    # lock_not_available.
    sqlstates=frozenset({"55P03"}),
    # ER_LOCK_WAIT_TIMEOUT.
    errnos=frozenset({1205}),
)
_SERIALIZATION_FAILURE: Final = "40001"


@dataclass(frozen=True, slots=True)
class Violation:
    """What the driver says about a violated constraint."""

    # The names are `None` on SQLite, MariaDB and MySQL, whose drivers put them into the
    # message, and nowhere else.
    constraint: str | None
    table: str | None
    schema: str | None
    # What to call it in a message: the constraint, or the columns.
    label: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An INSERT that has inserted no row."""

    # `None` if the statement skipped a conflict; it does not say with which constraint.
    error: DBAPIError | None
    # The instance that was to be inserted, if there was one already.
    loser: Any
    # Whether only the INSERT was undone, so that the transaction can go on.
    is_undone: bool = True


def is_duplicate_key(error: DBAPIError) -> bool:
    """Whether another row was in the way, not a NULL, CHECK or foreign key."""
    return error in _DUPLICATE


def is_serialization_failure(error: DBAPIError) -> bool:
    """Whether PostgreSQL wants the whole transaction to be run again."""
    sqlstate = getattr(error.orig, "sqlstate", None)
    # MySQL's drivers say the same of a deadlock, which tells nothing of a snapshot.
    return sqlstate == _SERIALIZATION_FAILURE and _errno(error) is None


def is_changed_since_snapshot(error: DBAPIError) -> bool:
    """Whether MariaDB has refused to lock a row that is newer than the snapshot."""
    return error in _CHANGED


def end_of_transaction(error: DBAPIError) -> DBAPIError | None:
    """Return what has ended the whole transaction, where InnoDB has done that.

    All that may be said in the end is that a SAVEPOINT is gone.
    """
    return next((each for each in _reasons(error) if each in _END), None)


def is_savepoint_gone(error: DBAPIError) -> bool:
    """Whether a SAVEPOINT has ended with its transaction, whatever has ended that."""
    # (A function that does not exist has the same number.)
    ends = str(error.statement).startswith(("RELEASE ", "ROLLBACK TO "))
    return ends and error in _CONSEQUENCE


def has_ended_by_timeout(error: DBAPIError) -> bool:
    """Whether a wait that was given up has undone all SAVEPOINTs with its statement."""
    # As innodb_rollback_on_timeout has it.
    return error in _CONSEQUENCE and any(e in _LOCK_TIMEOUT for e in _reasons(error))


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether another transaction has held a lock for too long."""
    return error in _LOCK_TIMEOUT


def asks_to_run_again(error: DBAPIError) -> bool:
    """Whether the database wants the whole transaction to be run again."""
    return any(each in _RETRY for each in _reasons(error))


def has_lost_connection(error: DBAPIError) -> bool:
    """Whether the connection ended before there was an answer."""
    return error.connection_invalidated or error in _LOST


def is_answer(error: BaseException) -> bool:
    """Whether a database has refused what it was sent, and did not do it."""
    if not isinstance(error, DBAPIError) or has_lost_connection(error):
        return False
    return code_of(error) is not None


def code_of(error: DBAPIError) -> str | int | None:
    """Return the database's code; a driver's own errors have none."""
    code: Any = _errno(error)
    for name in ("sqlite_errorcode", "sqlstate"):
        if code is None:
            code = getattr(error.orig, name, None)
    found: str | int | None = code
    return found


def _errno(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _reasons(error: DBAPIError) -> Iterator[DBAPIError]:
    """The error; and where it says that the transaction had failed, what came before.

    MariaDB ends the transaction because of a deadlock, and all that is seen then is
    that a SAVEPOINT is gone.
    """
    chain: list[BaseException | None] = [error]
    seen = set[int]()
    while chain:
        each = chain.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, DBAPIError):
            yield each
            if each not in _CONSEQUENCE:
                continue
        chain += (each.__cause__, each.__context__)


def violation(error: DBAPIError) -> Violation:
    """Return what the driver says about the constraint."""
    cause = error.orig
    # psycopg has the fields on `diag`. asyncpg has them on its own error, which
    # SQLAlchemy keeps as the cause of the one that it makes of it.
    fields = getattr(cause, "diag", None) or getattr(cause, "__cause__", None)
    constraint = getattr(fields, "constraint_name", None)
    # A NOT NULL has no name. Elsewhere, messages show values.
    label = constraint or getattr(fields, "column_name", None)
    if hasattr(cause, "sqlite_errorcode"):
        label = str(cause).partition(": ")[2]  # It names columns, and shows no values.
    return Violation(
        constraint=constraint,
        table=getattr(fields, "table_name", None),
        schema=getattr(fields, "schema_name", None),
        label=label or "a constraint",
    )
