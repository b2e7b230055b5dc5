"""See what an engine's connections can do, and what is between them and the server."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, StaticPool

from .lanes import statement_cache_size
from .writer import find_writer

# A transaction that can only read, where the database has such.
READ_ONLY: Final = {"postgresql_readonly": True}


def level_without_retry(connection: Connection) -> str | None:
    """Return the isolation level, if a lost race ends a transaction of that level."""
    levels = _LEVELS.get(connection.dialect.name)
    level = connection.get_isolation_level().upper() if levels else ""
    return level if levels and level in levels(connection) else None


def _innodb_levels(connection: Connection) -> set[str]:
    # It is not there before MariaDB 10.6.18, and not on MySQL.
    name = "innodb_snapshot_isolation"
    shown = connection.exec_driver_sql(f"SHOW VARIABLES LIKE '{name}'").first()
    refuses = shown is not None and shown[1] == "ON"
    return {"SERIALIZABLE", "REPEATABLE READ"} if refuses else {"SERIALIZABLE"}


_LEVELS: Final[Mapping[str, Callable[[Connection], set[str]]]] = {
    "postgresql": lambda _: {"SERIALIZABLE", "REPEATABLE READ"},
    "mysql": _innodb_levels,
    "mariadb": _innodb_levels,
}


def keeps_statements_in_pooler(connection: Connection, *, has_cache: bool) -> bool:
    """Whether a pooler may lose the prepared statements that the driver keeps."""
    pids = _PIDS.get(connection.dialect.driver)
    if pids is None:
        return False
    driver: Any = connection.connection.driver_connection
    known, keeps = pids(driver)
    # A pooler makes up the number by which a client cancels what it has asked for.
    pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    if known == pid or not (keeps or has_cache):
        return False
    return not _is_tracked(connection)


def _is_tracked(connection: Connection) -> bool:
    """Whether the pooler keeps track of what is prepared."""
    # PgBouncer does so under names of its own, which the server then knows it by.
    # psycopg prepares what it has sent five times.
    sent = sa.text(
        "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'PGBOUNCER%'"
    )
    return any(connection.execute(sent).scalar_one() for _ in range(7))


_PIDS: Final[Mapping[str, Callable[[Any], tuple[int, bool]]]] = {
    "asyncpg": lambda driver: (
        driver.get_server_pid(),
        bool(statement_cache_size(driver)),
    ),
    "psycopg": lambda driver: (
        driver.info.backend_pid,
        driver.prepare_threshold is not None,
    ),
}


def has_shared_connection(connection: Connection) -> bool:
    """Whether all sessions of the engine have the one connection."""
    return isinstance(connection.engine.pool, StaticPool)


def begins_transactions(connection: Connection) -> bool | None:
    """Whether SQLite's transactions begin by a statement; ``None``: it is another.

    The connection must be in what SQLAlchemy takes for a transaction.
    """
    writer = find_writer(connection.engine)
    if connection.dialect.name != "sqlite" or (writer and writer.statement is not None):
        return None
    driver: Any = connection.connection.driver_connection
    return bool(driver.in_transaction)
