"""Ask PostgreSQL about a row that was in the way of an INSERT and cannot be seen."""

from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from .errors import Violation, is_serialization_failure
from .patience import limit_waits

# From REPEATABLE READ on, a transaction never sees a later commit.
_SNAPSHOT_LEVELS: Final = frozenset({"REPEATABLE READ", "SERIALIZABLE"})

# The names of a table and of its constraint, of all tables that they are partitions of,
# and of the views over these. (An index of a partition is a relation of its own, which
# inherits from the index of the whole table.)
_RELATIONS: Final = text("""
    WITH RECURSIVE known AS (
        SELECT c.oid, c.relname
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relname IN (:table, :constraint)
        UNION
        SELECT c.oid, c.relname
        FROM known
        JOIN (
            SELECT inhrelid AS part, inhparent AS whole FROM pg_inherits
            UNION ALL
            SELECT d.refobjid, r.ev_class
            FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
            WHERE d.classid = CAST('pg_rewrite' AS regclass)
            AND d.refclassid = CAST('pg_class' AS regclass)
        ) AS step ON step.part = known.oid
        JOIN pg_class AS c ON c.oid = step.whole
    )
    SELECT relname FROM known
""")


async def relations_of(
    connection: AsyncConnection, violated: Violation
) -> frozenset[str | None]:
    """Return the names under which a model may know the table and its constraint."""
    asked = {
        "schema": violated.schema,
        "table": violated.table,
        "constraint": violated.constraint,
    }
    return frozenset(await connection.scalars(_RELATIONS, asked))


# That no SELECT finds the row may have many reasons: the snapshot, row level security,
# a trigger that stores other values than it is given. Only an INSERT meets the row
# whatever hides it, and one with ON CONFLICT DO NOTHING tells a snapshot from all else:
# where the row is beyond it, PostgreSQL raises a serialization failure instead of
# skipping. So the statement that has failed is sent once more with that clause, and
# whatever it does is undone.


async def is_beyond_snapshot(
    connection: AsyncConnection, error: DBAPIError, lock_timeout: float | None
) -> bool:
    """Whether the row that made the INSERT fail was committed after the snapshot."""
    # This question is one round trip, and the INSERT three, so both come last.
    if await connection.get_isolation_level() not in _SNAPSHOT_LEVELS:
        return False
    head, returning, tail = str(error.statement).rpartition(" RETURNING ")
    statement = (
        f"{head or tail} ON CONFLICT DO NOTHING{returning}{tail if head else ''}"
    )
    params: Any = error.params
    try:
        async with connection.begin_nested() as savepoint:
            if lock_timeout is not None:
                await connection.run_sync(limit_waits, lock_timeout)
            await connection.exec_driver_sql(statement, params)
            await savepoint.rollback()
    except DBAPIError as failure:
        # Anything else says nothing of the snapshot: a trigger has violated another
        # table's constraint, say, or the table takes no such clause, because it has a
        # deferrable constraint.
        return is_serialization_failure(failure)
    return False
