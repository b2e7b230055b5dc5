"""Let the database wait only so long for what a rival has not committed."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

# PostgreSQL's setting, and the one before, in one round trip. It is the transaction's:
# one that is set for the session would survive it, and the pool.
_LIMIT: Final = text(
    "SELECT current_setting('lock_timeout'), set_config('lock_timeout', :limit, true)"
)
_RESTORE: Final = "SET innodb_lock_wait_timeout = @async_goc"
# What it takes at most: 24 days; and what InnoDB takes: 34 years.
_MOST_MILLISECONDS: Final = 2**31 - 1
_MOST_SECONDS: Final = 2**30


def milliseconds(seconds: float) -> str:
    """Return a lock_timeout, of which PostgreSQL takes 0 for no limit."""
    return f"{max(1, round(min(seconds * 1000, _MOST_MILLISECONDS)))}ms"


def limit_waits(connection: Connection, seconds: float) -> str:
    """Let PostgreSQL wait no longer for a lock; return the setting before."""
    return _set(connection, milliseconds(seconds))


@contextmanager
def limited_in_savepoint(connection: Connection, seconds: float) -> Generator[None]:
    """Limit PostgreSQL's waits inside a SAVEPOINT, which is undone after an error."""
    before = limit_waits(connection, seconds)
    yield
    # ROLLBACK TO restores a setting, but RELEASE does not.
    _set(connection, before)


@contextmanager
def limited_in_session(connection: Connection, seconds: float) -> Generator[None]:
    """Limit InnoDB's waits, to whole seconds and at least one."""
    limit = max(1, ceil(min(seconds, _MOST_SECONDS)))
    connection.exec_driver_sql(
        "SET @async_goc = @@innodb_lock_wait_timeout, "
        f"innodb_lock_wait_timeout = {limit}"
    )
    # The setting is the session's, and neither a rollback nor the pool restores it.
    try:
        yield
    except Exception:
        if not connection.invalidated:
            with suppress(DBAPIError):  # If the connection is lost, so is the setting.
                connection.exec_driver_sql(_RESTORE)
        raise
    except BaseException:
        connection.invalidate()  # A task that was cancelled must send no SQL.
        raise
    connection.exec_driver_sql(_RESTORE)


def _set(connection: Connection, limit: str) -> str:
    before, _ = connection.execute(_LIMIT, {"limit": limit}).one()
    return str(before)
