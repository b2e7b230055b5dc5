"""Decide what a missing or a violated constraint means for a lookup."""

from collections.abc import Sequence
from typing import Any, Final, cast
from warnings import warn

from sqlalchemy import Connection, inspect, literal, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ._conflict import (
    Violation,
    is_duplicate_key,
    is_serialization_failure,
    violation,
)
from ._coverage import Cover, Unique, cover_by, uniques_of
from ._fields import T
from ._lookup import Lookup
from ._policy import MissingConstraint
from ._session import dialect_of
from .exceptions import (
    MissingConstraintError,
    MissingConstraintWarning,
    SnapshotConflictError,
)

# From REPEATABLE READ on, a PostgreSQL transaction never sees a later commit.
_SNAPSHOT_LEVELS: Final = frozenset({"REPEATABLE READ", "SERIALIZABLE"})


def require_cover(
    session: AsyncSession, lookup: Lookup[Any], missing_constraint: MissingConstraint
) -> None:
    """Complain when the database would accept the looked-up row twice.

    Raises:
        MissingConstraintError: If that is what *missing_constraint* asks for.
    """
    plan = lookup.plan
    if plan.is_covered or missing_constraint == "ignore":
        return
    names = lookup.names
    if missing_constraint == "warn" and names in plan.warned:
        return
    if lookup.cover(dialect_of(session, plan.mapper)) is not None:
        return
    if missing_constraint == "error":
        raise MissingConstraintError(plan.model, names)
    plan.warned.add(names)
    warn(MissingConstraintWarning(plan.model, names), stacklevel=3)


async def find_rival(
    session: AsyncSession, lookup: Lookup[T], error: DBAPIError
) -> T | None:
    """Return the row that made our INSERT fail; ``None`` if it has vanished again.

    Raises:
        SnapshotConflictError: The rival's row is there, but cannot be seen.
        sqlalchemy.exc.DBAPIError: *error* itself, with a note.
    """
    # Whatever constraint it was: if the row is there now, a rival made it.
    found = await lookup.look(session) if is_duplicate_key(error) else None
    if found is not None:
        return found
    violated = violation(error)
    args = (lookup.plan.model, lookup.names, violated.constraint)
    if is_serialization_failure(error):
        raise SnapshotConflictError(*args) from error
    # SQLite has one writer, and that is us: no rival's row can have vanished.
    if is_duplicate_key(error) and violated.constraint is not None:
        cover = await _cover_by_violated(session, lookup, violated)
        if cover is not None:
            if await _is_hidden(session, lookup, cover):
                raise SnapshotConflictError(*args) from error
            if cover.is_exact:
                return None
    _explain(lookup, error, violated)
    raise error


async def _cover_by_violated(
    session: AsyncSession, lookup: Lookup[Any], violated: Violation
) -> Cover | None:
    """Return how the lookup stands to the violated constraint; ``None``: not at all."""
    mapper = lookup.plan.mapper
    dialect = dialect_of(session, mapper)
    tables: dict[str | None, Any] = {
        getattr(table, "name", None): table for table in mapper.tables
    }
    if violated.table not in tables:
        return None  # a trigger's insert into another table
    named = (u for u in uniques_of(mapper, dialect) if u.name == violated.constraint)
    unique = next(named, None)
    if unique is None:
        # The database chose the name, or the model does not know the constraint.
        connection = await session.connection(bind_arguments={"mapper": mapper})
        names = await connection.run_sync(_reflected_columns, violated)
        if names is None:
            return None
        columns = [c for c in tables[violated.table].columns if c.name in names]
        unique = Unique(violated.constraint, frozenset(columns), is_null_equal=True)
    return cover_by(mapper, unique, lookup.conditions(), dialect)


def _reflected_columns(
    connection: Connection, violated: Violation
) -> Sequence[str] | None:
    """Ask the database for the constraint's columns; ``None``: it is not just these."""
    inspector = inspect(connection)
    table, schema = str(violated.table), violated.schema
    key = inspector.get_pk_constraint(table, schema)
    if key["name"] == violated.constraint:
        return key["constrained_columns"]
    # Each unique constraint is an index, too.
    indexes = {index["name"]: index for index in inspector.get_indexes(table, schema)}
    index: Any = indexes[violated.constraint]
    is_partial = "postgresql_where" in index.get("dialect_options", ())
    names: list[str | None] = index["column_names"]  # an expression has no name
    return None if is_partial or None in names else cast("list[str]", names)


async def _is_hidden(session: AsyncSession, lookup: Lookup[Any], cover: Cover) -> bool:
    """Whether the row that holds the key is beyond this transaction's snapshot."""
    mapper = lookup.plan.mapper
    connection = await session.connection(bind_arguments={"mapper": mapper})
    # Asked only now: it costs a round trip each time.
    if await connection.get_isolation_level() not in _SNAPSHOT_LEVELS:
        return False
    if cover.is_exact:
        return True  # The lookup asks for just that row, and has not found it.
    # The lookup asks for more than the key: is the row there, but different?
    row = select(literal(1)).where(*cover.conditions).limit(1)
    return (await connection.scalar(row)) is None


def _explain(lookup: Lookup[Any], error: DBAPIError, violated: Violation) -> None:
    """Add what we know to a database error that reaches the caller."""
    if not isinstance(error, IntegrityError):
        return
    # For the eye only: SQLite's message has the columns, and nothing else does.
    constraint = violated.constraint or str(error.orig).partition(": ")[2]
    error.add_note(
        f"creating the {lookup.plan.model.__name__} looked up by "
        f"{', '.join(lookup.names)} violated {constraint or 'a constraint'}, which is "
        "not a lost race for this lookup; change the values for the new row, or look "
        "up by that constraint's columns. Only the INSERT has been undone: the "
        "transaction goes on"
    )
