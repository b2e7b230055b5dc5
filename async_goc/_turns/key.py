"""Turn a lookup into the key at which equal lookups of this process meet.

A key that is too coarse costs a short wait, one that is too fine an INSERT that a rival
has made already; neither costs more, because the constraint is the judge.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Column, ColumnElement, Connection, Engine
from sqlalchemy.engine import Dialect

from .._databases import facts_of
from .._lookup import Lookup, Plan
from .._models import (
    Equality,
    conjuncts,
    covering,
    equality,
    identity_of,
    sql_text,
    uniques_of,
)
from .freeze import PLAIN, Freeze, freezer, frozen

Values = Mapping[str, Any]
Schemas = Mapping[str | None, str | None]


class Key(NamedTuple):
    """What a call queues for.

    Attributes:
        database: The engine's dialect: each engine makes one, and shares it with the
            engines and connections that are derived from it.
        schema: The table's schema, translated.
        table: The table's name; ``None`` stands for the whole database.
        columns: What is looked up, by column name or as SQL.
        values: Their values.
        namespace: The policy's.
    """

    database: ref[Dialect]
    schema: str | None = None
    table: str | None = None
    columns: tuple[str, ...] = ()
    values: tuple[Hashable, ...] = ()
    namespace: Hashable = None


@dataclass(frozen=True, slots=True)
class _Part:
    """One column of a key: what it is called, and where its value comes from."""

    label: str
    read: Callable[[Values], Any]
    freeze: Freeze


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How to make the keys of one plan, for one database."""

    database: ref[Dialect]
    schema: str | None
    table: str | None
    columns: tuple[str, ...]
    parts: tuple[_Part, ...]

    def key(self, values: Values, schemas: Schemas, namespace: Hashable) -> Key | None:
        try:
            key = tuple([part.freeze(part.read(values)) for part in self.parts])
            hash(key)
        # A pending parent, a bottomless list; and an adviser does not fail the call.
        except Exception:  # noqa: BLE001
            return None
        schema = schemas.get(self.schema, self.schema) if schemas else self.schema
        return Key(self.database, schema, self.table, self.columns, key, namespace)

    def keys(
        self, rows: Sequence[Values], schemas: Schemas, namespace: Hashable
    ) -> list[Key | None]:
        if all(part.freeze is frozen for part in self.parts):
            with suppress(Exception):  # as above
                columns = [list(map(part.read, rows)) for part in self.parts]
                if set(map(type, chain(*columns))) <= PLAIN:
                    return self._of_columns(columns, schemas, namespace)
        return [self.key(row, schemas, namespace) for row in rows]

    def _of_columns(
        self, columns: Sequence[Sequence[Hashable]], schemas: Schemas, name: Hashable
    ) -> list[Key | None]:
        schema = schemas.get(self.schema, self.schema) if schemas else self.schema
        place = (self.database, schema, self.table, self.columns)
        make = Key._make  # Key(…) takes twice as long.
        return [make((*place, values, name)) for values in zip(*columns, strict=True)]


def key_of(
    lookup: Lookup[Any],
    bind: Engine | Connection,
    schemas: Schemas,
    namespace: Hashable,
) -> Key | None:
    """Return the key of *lookup*; ``None``: only the database can tell what it means.

    Args:
        lookup: The lookup.
        bind: What its model's table is reached through.
        schemas: The ``schema_translate_map`` in force.
        namespace: The policy's.
    """
    dialect = bind.dialect
    if facts_of(dialect).has_one_writer:
        # It has one writer, whatever is written; on one connection, not even that.
        return None if isinstance(bind, Connection) else Key(ref(dialect))
    recipe = _recipe_for(lookup, dialect)
    return None if recipe is None else recipe.key(lookup.values, schemas, namespace)


def keys_of(
    lookup: Lookup[Any],
    rows: Sequence[Values],
    bind: Engine | Connection,
    schemas: Schemas,
    namespace: Hashable,
) -> list[Key | None]:
    """Return the keys of lookups that have this one's plan, and *rows* for values."""
    context = (bind, schemas, namespace)
    if facts_of(bind.dialect).has_one_writer:
        return [key_of(lookup, *context)] * len(rows)
    is_fixed = _has_fixed_recipe(lookup, bind.dialect)
    recipe = _recipe_for(lookup, bind.dialect) if is_fixed else None
    if recipe is None:
        return [key_of(replace(lookup, values=row), *context) for row in rows]
    return recipe.keys(rows, schemas, namespace)


def _recipe_for(lookup: Lookup[Any], dialect: Dialect) -> _Recipe | None:
    plan = lookup.plan
    if not _has_fixed_recipe(lookup, dialect):
        return _recipe(plan, lookup.conditions(), dialect)
    try:
        recipe: _Recipe | None = vars(dialect)["_async_goc"][plan]
    except KeyError:
        # With the dialect, to which the types' functions may refer; weakly by the plan.
        recipes = vars(dialect).setdefault("_async_goc", WeakKeyDictionary())
        conditions = list(conjuncts(plan.statement.whereclause))
        recipe = recipes[plan] = _recipe(plan, conditions, dialect)
    return recipe


def _has_fixed_recipe(lookup: Lookup[Any], dialect: Dialect) -> bool:
    """Whether the values do not decide which constraint covers the lookup."""
    if lookup.criteria:
        return False
    return lookup.plan.is_covered or not any(
        unique.where or unique.expressions
        for unique in uniques_of(lookup.plan.mapper, dialect)
    )


def _recipe(
    plan: Plan[Any], conditions: Sequence[ColumnElement[bool]], dialect: Dialect
) -> _Recipe | None:
    """Compile the conditions that count: those on a unique constraint, if one covers.

    Otherwise any equality counts. With none, there is nothing to tell keys apart by.
    """
    known = None if plan.is_covered else dialect
    found = covering(plan.mapper, conditions, known)
    table: Any = plan.mapper.local_table
    if found is not None:
        # By the constraint's own columns, so that different call sites meet.
        table, conditions = found[0].table, found[1]
    sources = {parameter: source for parameter, *source in plan.binds}
    equalities = filter(None, map(equality, conditions))
    parts = [_part(found, sources, dialect) for found in equalities]
    if not parts:
        return None
    parts.sort(key=lambda part: part.label)
    return _Recipe(
        ref(dialect),
        getattr(table, "schema", None),
        getattr(table, "name", ""),  # A mapped join has none.
        tuple(part.label for part in parts),
        tuple(parts),
    )


def _part(
    found: Equality, sources: Mapping[str, Sequence[Any]], dialect: Dialect
) -> _Part:
    label = _label(found.left, dialect)
    freeze = freezer(found.left.type, dialect)
    source = None if found.is_null else sources.get(getattr(found.right, "key", ""))
    if source is None:
        value = found.value  # without the column, which would keep the model
        return _Part(label, lambda _: value, freeze)
    name, position = source
    if position is None:
        return _Part(label, lambda values: values[name], freeze)

    def parent_key(values: Values) -> Any:
        return identity_of(values[name])[position]

    return _Part(label, parent_key, freeze)


def _label(left: Any, dialect: Dialect) -> str:
    return left.name if isinstance(left, Column) else str(sql_text(left, dialect))
