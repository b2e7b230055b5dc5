"""Decide what a missing or a violated constraint means for a lookup."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn, cast

from sqlalchemy import ColumnElement, Connection, inspect, literal, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapper

from .._call import Call
from .._databases import (
    Failure,
    Violation,
    is_duplicate_key,
    is_serialization_failure,
    violation,
)
from .._lookup import Lookup
from .._models import T, Unique, conditions_on, differs, equality, uniques_of
from ..exceptions import SnapshotConflictError

Key = Sequence[ColumnElement[bool]]

# From REPEATABLE READ on, a PostgreSQL transaction never sees a later commit.
_SNAPSHOT_LEVELS: Final = frozenset({"REPEATABLE READ", "SERIALIZABLE"})


# After a lost race, the lookup usually finds the rival's row. If it finds none, one of
# four things has happened:
#
#  1. The rival's row has vanished, by a rollback or a DELETE. The next attempt may
#     succeed.
#  2. The row was committed after this transaction's snapshot. No attempt can succeed.
#  3. The row is visible in the table, and the lookup does not find it, because it asks
#     for more than the key, for a subclass, or through filters that the session adds to
#     every query. This is the caller's error.
#  4. The conflict was one of another constraint: the caller's error, too.
#
# It is tempting to tell them apart by the shape of the lookup: where it fixes all
# columns of a unique constraint, a row that is in the way and not found must have
# vanished. But a condition beyond the key may hide a row that is there (3). And the
# constraint that was violated may belong to a table that a trigger fills, to a child
# that the same flush inserts, or to a value that a validator has changed (4). Each
# further attempt would fail in the same way, and the ContentionError at the end would
# blame a rival.
#
# So the driver says which constraint was violated, and the table is asked for that key
# alone. If a row has it, and still has it after one more lookup, the error is the
# caller's. If none has, the row has vanished or lies beyond the snapshot, and the
# isolation level tells which. SQLite does not name
# the constraint, and need not: it has one writer, which is this transaction, and so no
# rival's row can have vanished.


async def find_rival(call: Call, lookup: Lookup[T], failure: Failure) -> T | None:
    """Return the row that made our INSERT fail; ``None`` if it has vanished again."""
    # Raises a SnapshotConflictError if the row cannot be seen, and the failure's own
    # error, with a note, if that is not about a rival.
    session, error = call.session, failure.error
    is_known = failure.is_undone and (error is None or is_duplicate_key(error))
    found = await lookup.look(session, is_refreshing=True) if is_known else None
    if found is not None or error is None:
        return found
    violated = violation(error)
    names = (lookup.plan.model, lookup.names, violated.constraint)
    conflict = SnapshotConflictError(*names)
    if is_serialization_failure(error) and str(error.statement).startswith("INSERT"):
        # A lost race under SERIALIZABLE. (Another statement would be a factory's.)
        raise conflict from error
    if is_known and violated.constraint is not None:
        arguments = {"mapper": lookup.plan.mapper}
        connection = await session.connection(bind_arguments=arguments)
        key = await _key_looked_up(connection, lookup, violated)
        if key is not None and _is_losers(key, lookup, failure.loser):
            question = (connection, lookup, key, violated.table)
            holder = await _holder(*question)
            if holder is not None:
                # Another rival may have come between the lookup and the question.
                found = await lookup.look(session)
                if found is not None:
                    return found
            # And it may have gone again: only a row that stays is not a rival's.
            if holder is None or holder != await _holder(*question):
                # Each question for the level is a round trip, so it comes last.
                if await connection.get_isolation_level() in _SNAPSHOT_LEVELS:
                    raise conflict from error
                return None
    undone = "this statement" if failure.is_undone else None
    explain(lookup, error, "creating", undone=undone)
    raise error


def refuse_many(lookup: Lookup[Any], error: DBAPIError) -> NoReturn:
    """Raise what it means that an INSERT of many rows has failed."""
    # A unique conflict is skipped, so an error is never about a rival's visible row.
    if is_serialization_failure(error):
        raise SnapshotConflictError(lookup.plan.model, lookup.names) from error
    explain(lookup, error, "creating", undone="this call")
    raise error


async def _key_looked_up(
    connection: AsyncConnection, lookup: Lookup[Any], violated: Violation
) -> Key | None:
    """Return the part of the lookup that the violated constraint is about."""
    # `None` where the lookup does not fix all that the constraint does, because the
    # conflict is then about something else.
    mapper, dialect = lookup.plan.mapper, connection.dialect
    tables: Any = mapper.tables
    table = next((t for t in tables if t.name == violated.table), None)
    if table is None:
        return None  # A trigger has inserted into another table.
    named = (u for u in uniques_of(mapper, dialect) if u.name == violated.constraint)
    unique = next(named, None)
    if unique is None:
        # The database chose the name, or the model does not know the constraint.
        names = await connection.run_sync(_reflect, violated)
        if names is None:
            return None
        columns = frozenset(c for c in table.columns if c.name in names)
        unique = Unique(violated.constraint, table, columns, is_null_equal=True)
    return conditions_on(unique, mapper, lookup.conditions(), dialect)


def _reflect(connection: Connection, violated: Violation) -> Sequence[str] | None:
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
        return None  # A trigger has made up the name.
    options: Mapping[str, Any] = index.get("dialect_options", {})
    is_partial = any(option.endswith("_where") for option in options)
    names: list[str | None] = index["column_names"]  # an expression has no name
    return None if is_partial or None in names else cast("list[str]", names)


def _is_losers(key: Key, lookup: Lookup[Any], loser: Any) -> bool:
    """Whether the loser had the values looked up, and was the only one to have any."""
    if loser is None:
        return True
    mapper = lookup.plan.mapper
    state: Any = inspect(loser)
    family = mapper.base_mapper
    cascaded: Any = state.mapper.cascade_iterator("save-update", state)
    if any(m.base_mapper is family and s.key is None for _, m, s, _ in cascaded):
        return False  # It may have been a child's.
    # A validator, or a factory, may have changed a value.
    return not any(
        differs(state.dict.get(prop.key, value), value, prop.columns[0])
        for _, prop, value in _compared(mapper, key)
        if prop is not None
    )


async def _holder(
    connection: AsyncConnection, lookup: Lookup[Any], key: Key, table: str | None
) -> Sequence[Any] | None:
    """Return the primary key of the visible row that holds *key*, if there is one."""
    where: list[ColumnElement[bool]] = []
    for condition, prop, value in _compared(lookup.plan.mapper, key):
        if prop is None:
            where.append(condition)
        else:
            # Not the attribute: that would ask for rows of its class only. And joined
            # inheritance has a column of each table under one name.
            columns = {column.table.name: column for column in prop.columns}
            where.append(columns.get(table, prop.columns[0]) == value)
    tables: Any = lookup.plan.mapper.tables
    identity = [c for t in tables if t.name == table for c in t.primary_key.columns]
    row = select(literal(1), *identity).where(*where).limit(1)
    return (await connection.execute(row)).first()


def _compared(
    mapper: Mapper[Any], key: Key
) -> Iterator[tuple[ColumnElement[bool], Any, Any]]:
    """Yield each condition, and the property and value that it compares, if plain."""
    for condition in key:
        found = equality(condition)
        if found is None or not mapper.columns.contains_column(found.left):
            yield condition, None, None
        else:
            prop = mapper.get_property_by_column(found.left)
            yield condition, prop, found.value


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
    # SQLite has the columns in its message, and nowhere else; they are only shown.
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
