"""Find the key that a conflict was about, and ask for the row that holds it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, Connection, inspect, literal, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.visitors import iterate, replacement_traverse

from .._databases import Violation, as_stored, relations_of, violation
from .._lookup import Lookup
from .._models import (
    SQL,
    Unique,
    conditions_on,
    covering,
    differs,
    equality,
    exclusion,
    nullable,
    uniques_of,
)
from ..exceptions import ContradictionError


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that is looked up, and that a row holds which the lookup did not find."""

    connection: AsyncConnection
    lookup: Lookup[Any]
    unique: Unique
    # Those of the lookup's conditions that fix the constraint.
    conditions: Sequence[ColumnElement[bool]]
    # Whether the database has named the constraint.
    is_named: bool = True

    def is_of(self, loser: Any) -> bool:
        """Whether the loser, and nothing made with it, had the values looked up."""
        if loser is None:
            return True
        mapper = self.lookup.plan.mapper
        state: Any = inspect(loser)
        family = mapper.base_mapper
        cascaded: Any = state.mapper.cascade_iterator("save-update", state)
        if any(m.base_mapper is family and s.key is None for _, m, s, _ in cascaded):
            return False  # It may have been a child's.
        # A validator, or a factory, may have changed a value.
        return not any(
            differs(state.dict.get(prop.key, value), value, prop.columns[0])
            for _, prop, value in self.compared()
            if prop is not None
        )

    async def holder(self) -> Sequence[Any] | None:
        """Return the primary key of the visible row that holds it, if there is one."""
        table = self.unique.table
        where: list[ColumnElement[bool]] = []
        for condition, prop, value in self.compared():
            if prop is None:
                where.append(condition)
                continue
            # Not the attribute: that would ask for rows of its class only. And joined
            # inheritance has a column of each table under one name.
            columns: Mapping[Any, Any] = {c.table: c for c in prop.columns}
            where.append(self._conflicts(columns.get(table, prop.columns[0]), value))
        row = select(literal(1), *table.primary_key.columns).where(*where).limit(1)
        return (await self.connection.execute(row)).first()

    def _conflicts(self, column: Column[Any], value: Any) -> ColumnElement[bool]:
        if value is None:
            return column.is_(None)
        operator = self.unique.operators.get(column.name, "=")
        stored = as_stored(column.type, literal(value, column.type))
        return column.bool_op(operator)(stored)

    def compared(self) -> Iterator[tuple[ColumnElement[bool], Any, Any]]:
        """Yield each condition, and the property and value it compares, if plain."""
        mapper = self.lookup.plan.mapper
        for condition in self.conditions:
            found = equality(condition)
            if found is None or not mapper.columns.contains_column(found.left):
                yield condition, None, None
            else:
                prop = mapper.get_property_by_column(found.left)
                yield condition, prop, found.value


async def held_key(
    connection: AsyncConnection, lookup: Lookup[Any], error: DBAPIError
) -> HeldKey | None:
    """Return the part of the lookup that the violated constraint is about."""
    # `None` where the lookup does not fix all that the constraint does, because the
    # conflict is then about something else.
    mapper, dialect = lookup.plan.mapper, connection.dialect
    violated, conditions = violation(error), lookup.conditions()
    if violated.constraint is None:
        # The driver does not name it, so it is taken for the one that is looked up by.
        found = covering(mapper, conditions, dialect)
        return found and HeldKey(connection, lookup, *found, is_named=False)
    unique = await _constraint(connection, lookup, violated)
    if unique is None:
        return None
    used = conditions_on(unique, mapper, conditions, dialect)
    return None if used is None else HeldKey(connection, lookup, unique, used)


async def _constraint(
    connection: AsyncConnection, lookup: Lookup[Any], violated: Violation
) -> Unique | None:
    """Return the violated constraint, in terms of the model's own tables."""
    mapper = lookup.plan.mapper
    names = frozenset((violated.table, violated.constraint))
    tables: Any = mapper.tables
    table = next((t for t in tables if t.name in names), None)
    if table is None:
        # A partition's, or that of the table behind a view.
        names = await relations_of(connection, violated)
        table = next((t for t in tables if t.name in names), None)
    if table is None:
        return None  # A trigger has inserted into another table.
    declared = uniques_of(mapper, connection.dialect)
    unique = next((u for u in declared if u.name in names and u.table is table), None)
    if unique is not None:
        return unique
    excluding = filter(None, (exclusion(table, str(name)) for name in names))
    unique = next(excluding, None)
    if unique is not None:
        return unique
    # The database chose the name, or the model does not know the constraint.
    keys = await connection.run_sync(_reflect, violated)
    if keys is None or not set(keys) <= {column.name for column in table.columns}:
        return None
    columns = frozenset(column for column in table.columns if column.name in keys)
    return Unique(violated.constraint, table, columns, is_null_equal=True)


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
    if index is None or not index["unique"]:
        return None  # A trigger has made up the name, or it excludes more than equals.
    options: Mapping[str, Any] = index.get("dialect_options", {})
    is_partial = any(option.endswith("_where") for option in options)
    names: list[str | None] = index["column_names"]  # an expression has no name
    return None if is_partial or None in names else cast("list[str]", names)


async def refuse_contradiction(held: HeldKey, loser: Any, error: DBAPIError) -> None:
    """Raise if the loser's own values do not satisfy what is looked up."""
    # Plain columns get the values that are looked up. What an expression makes of its
    # columns' values, only the database can say. It has computed this one for an index
    # before, so that it cannot fail.
    lookup = held.lookup
    for condition, prop, _ in held.compared():
        values = {} if prop or loser is None else _values_in(condition, lookup, loser)
        if not values:
            continue
        sent = {c: as_stored(c.type, literal(v, c.type)) for c, v in values.items()}
        asked = replacement_traverse(condition, {}, partial(_replaced, sent))
        if not await held.connection.scalar(select(asked)):
            names = ", ".join(column.key for column in values)
            given = (
                next(iter(values.values())) if len(values) == 1 else [*values.values()]
            )
            wanted = (lookup.plan.model, names, str(condition))
            raise ContradictionError(*wanted, given) from error


def _values_in(
    condition: ColumnElement[bool], lookup: Lookup[Any], loser: Any
) -> dict[Any, Any]:
    """Return the loser's values of the columns in *condition*, if all are known."""
    mapper, loaded = lookup.plan.mapper, inspect(loser).dict
    elements: list[Any] = list(iterate(condition))
    values: dict[Any, Any] = {}
    for column in elements:
        if not issubclass(column.__class__, Column):
            continue
        value = loaded.get(mapper.get_property_by_column(column).key)
        is_default = value is None and column.key not in nullable(mapper)
        if is_default or isinstance(value, SQL):
            return {}
        values[column] = value
    return values


def _replaced(sent: Mapping[Any, Any], element: Any, **_: Any) -> Any:
    return sent.get(element) if isinstance(element, Column) else None
