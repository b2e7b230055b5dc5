"""Decide what a missing or a violated constraint means for a lookup."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from sqlalchemy import ColumnElement, Connection, inspect, literal, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from .._databases import (
    Failure,
    Violation,
    dialect_of,
    is_duplicate_key,
    is_serialization_failure,
    violation,
)
from .._lookup import Lookup
from .._models import T, Unique, conditions_on, differs, equality, uniques_of
from ..exceptions import SnapshotConflictError

# From REPEATABLE READ on, a PostgreSQL transaction never sees a later commit.
_SNAPSHOT_LEVELS: Final = frozenset({"REPEATABLE READ", "SERIALIZABLE"})


async def find_rival(
    session: AsyncSession, lookup: Lookup[T], failure: Failure
) -> T | None:
    """Return the row that made our INSERT fail; ``None`` if it has vanished again.

    Raises:
        SnapshotConflictError: The rival's row is there, but cannot be seen.
        sqlalchemy.exc.DBAPIError: The failure's error itself, with a note.
    """
    error = failure.error
    is_known = failure.is_undone and (error is None or is_duplicate_key(error))
    found: T | None = None
    if is_known:
        found = await lookup.look(session, is_refreshing=True)
    if found is not None or error is None:
        return found
    violated = violation(error)
    args = (lookup.plan.model, lookup.names, violated.constraint)
    if is_serialization_failure(error) and str(error.statement).startswith("INSERT"):
        # Under SERIALIZABLE a lost race reads so. (Another statement's is a factory's.)
        raise SnapshotConflictError(*args) from error
    # SQLite has one writer, and that is us: no rival's row can have vanished.
    if is_known and violated.constraint is not None:
        key = await _key_looked_up(session, lookup, violated)
        if key is not None and _is_losers(key, lookup, failure.loser):
            if not await _is_there(session, lookup, key, violated.table):
                if await _has_snapshot(session, lookup):
                    raise SnapshotConflictError(*args) from error
                return None
            # Another rival may have come between the look and the question.
            found = await lookup.look(session)
            if found is not None:
                return found
    undone = "this statement" if failure.is_undone else None
    explain(lookup, error, "creating", undone=undone)
    raise error


async def _key_looked_up(
    session: AsyncSession, lookup: Lookup[Any], violated: Violation
) -> Sequence[ColumnElement[bool]] | None:
    """Return the part of the lookup that the violated constraint is about.

    ``None`` where the lookup does not fix all that the constraint does: then the
    conflict is another one.
    """
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
        table = tables[violated.table]
        columns = frozenset(c for c in table.columns if c.name in names)
        unique = Unique(violated.constraint, table, columns, is_null_equal=True)
    return conditions_on(unique, mapper, lookup.conditions(), dialect)


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
    index: Any = indexes.get(violated.constraint)
    if index is None:
        return None  # a name that a trigger has made up
    options: Mapping[str, Any] = index.get("dialect_options", {})
    is_partial = any(option.endswith("_where") for option in options)
    names: list[str | None] = index["column_names"]  # an expression has no name
    return None if is_partial or None in names else cast("list[str]", names)


def _is_losers(
    key: Sequence[ColumnElement[bool]], lookup: Lookup[Any], loser: Any
) -> bool:
    """Whether the loser had the values looked up, and was the only one to have any."""
    if loser is None:
        return True
    mapper = lookup.plan.mapper
    state: Any = inspect(loser)
    family = mapper.base_mapper
    cascaded: Any = state.mapper.cascade_iterator("save-update", state)
    if any(m.base_mapper is family and s.key is None for _, m, s, _ in cascaded):
        return False  # It may have been a child's.
    for found in filter(None, map(equality, key)):
        if mapper.columns.contains_column(found.left):
            name = mapper.get_property_by_column(found.left).key
            # A validator, or a factory, may have changed the value.
            if differs(state.dict.get(name, found.value), found.value):
                return False
    return True


async def _is_there(
    session: AsyncSession,
    lookup: Lookup[Any],
    key: Sequence[ColumnElement[bool]],
    table: str | None,
) -> bool:
    """Whether a row that holds the key is visible, whatever else it holds.

    The lookup may not see it: it asks for more than the key, for a subclass, or
    through filters that the session adds to every query. So this asks the table.
    """
    mapper = lookup.plan.mapper
    connection = await session.connection(bind_arguments={"mapper": mapper})
    # A condition on an attribute would look for rows of the attribute's class only;
    # and joined inheritance has a column of each table under one name.
    where: list[ColumnElement[bool]] = []
    for condition in key:
        found = equality(condition)
        if found is not None and mapper.columns.contains_column(found.left):
            prop: Any = mapper.get_property_by_column(found.left)
            columns = {column.table.name: column for column in prop.columns}
            where.append(columns.get(table, prop.columns[0]) == found.value)
        else:
            where.append(condition)
    row = select(literal(1)).where(*where).limit(1)
    return (await connection.scalar(row)) is not None


async def _has_snapshot(session: AsyncSession, lookup: Lookup[Any]) -> bool:
    """Whether this transaction sees no commits later than its start."""
    arguments = {"mapper": lookup.plan.mapper}
    connection = await session.connection(bind_arguments=arguments)
    # Asked only now: it costs a round trip each time.
    return await connection.get_isolation_level() in _SNAPSHOT_LEVELS


def explain(
    lookup: Lookup[Any],
    error: DBAPIError,
    doing: Literal["creating", "updating"],
    *,
    undone: str | None,
) -> None:
    """Add what we know to a database error that reaches the caller."""
    if not isinstance(error, IntegrityError):
        return
    # For the eye only: SQLite's message has the columns, and nothing else does.
    constraint = violation(error).constraint or str(error.orig).partition(": ")[2]
    why = "give the row other values"
    if is_duplicate_key(error):
        why = (
            "another row holds these values, and the lookup does not find it. Give the "
            "row others, or look up by that constraint's columns"
        )
    then = (
        f"Only {undone} has been undone: the transaction goes on"
        if undone
        else "Roll the transaction back: the strategy 'native' has no SAVEPOINT"
    )
    error.add_note(
        f"{doing} the {lookup.plan.model.__name__} looked up by "
        f"{', '.join(lookup.names)} violated {constraint or 'a constraint'}; {why}. "
        f"{then}"
    )
