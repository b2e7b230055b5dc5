"""Tell a lost race from every other database error."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

# asyncpg and psycopg: SQLSTATE unique_violation, exclusion_violation.
_SQLSTATES: Final = frozenset({"23505", "23P01"})
# aiosqlite: SQLITE_CONSTRAINT_PRIMARYKEY, _UNIQUE, _ROWID (extended result codes).
_SQLITE_CODES: Final = frozenset({1555, 2067, 2579})
# asyncmy and aiomysql: ER_DUP_ENTRY, ER_DUP_ENTRY_WITH_KEY_NAME. Their SQLSTATE,
# 23000, stands for foreign keys and NULLs as well.
_ERRNOS: Final = frozenset({1062, 1586})
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
    cause = error.orig
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return code in _SQLITE_CODES
    if getattr(cause, "sqlstate", None) in _SQLSTATES:
        return True
    return bool(cause is not None and cause.args and cause.args[0] in _ERRNOS)


def is_serialization_failure(error: DBAPIError) -> bool:
    """Whether PostgreSQL wants the whole transaction to be run again."""
    return getattr(error.orig, "sqlstate", None) == _SERIALIZATION_FAILURE


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
