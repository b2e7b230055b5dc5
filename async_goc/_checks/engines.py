"""Find what an engine cannot promise, by what it is connected to and how."""

from collections.abc import Iterator

from sqlalchemy import Connection

from .._databases import (
    begins_transactions,
    has_shared_connection,
    keeps_statements_in_pooler,
    level_without_retry,
    unprepared,
)
from .._models import has_statement_cache, level_on_connect
from .finding import Code, Finding


def engine_findings(connection: Connection) -> Iterator[Finding]:
    """Yield what is to be known of the engine of a connection."""
    if has_shared_connection(connection):
        yield _finding(
            "shared-connection",
            "all sessions of this engine share one connection (StaticPool), and with "
            "it one transaction",
            "use a database file, or another pool",
        )
    if _is_in_autocommit(connection):
        yield _finding(
            "autocommit",
            "this engine is in AUTOCOMMIT, so no rollback undoes a created row, and a "
            "miss is refused where the database has no SAVEPOINT then",
            "leave isolation_level out, or name another one",
        )
        return
    yield from _of_transactions(connection)
    has_cache = has_statement_cache(connection.connection.dbapi_connection)
    if keeps_statements_in_pooler(connection, has_cache=has_cache):
        yield _finding(
            "prepared-statements",
            "a pooler is between this engine and the server, does not keep track of "
            "prepared statements, and the driver keeps some",
            f"make the engine with connect_args={unprepared(connection.engine.url)}, "
            "or take PgBouncer from 1.21 on; nothing need be done if its pool_mode is "
            "session",
        )


def _of_transactions(connection: Connection) -> Iterator[Finding]:
    begins = begins_transactions(connection)
    if begins is not None:
        yield _finding(
            "sqlite-not-configured",
            "this SQLite engine was not configured, so its writers do not queue, and "
            + (
                "one that reads before it writes can fail with 'database is locked'"
                if begins
                else "a SAVEPOINT that comes before any INSERT is in no transaction"
            ),
            "call async_goc.sqlite.configure(engine)",
        )
    level = level_without_retry(connection)
    if level is not None:
        yield _finding(
            "isolation",
            f"this engine's transactions are {level}, where a lost race ends the "
            "transaction",
            "make the engine with isolation_level='READ COMMITTED', or run each "
            "transaction by run_in_transaction",
        )


def _is_in_autocommit(connection: Connection) -> bool:
    level = connection.get_execution_options().get("isolation_level")
    level = level or level_on_connect(connection.dialect)
    return level is not None and level.upper() == "AUTOCOMMIT"


def _finding(code: Code, message: str, remedy: str) -> Finding:
    return Finding(code, "warning", None, message, remedy)
