"""Turn a lookup into the key at which equal lookups of this process meet."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Column, ColumnElement, Connection, Engine
from sqlalchemy.engine import Dialect

from .._lookup import Lookup, Plan
from .._models import (
    Equality,
    covering,
    equality,
    identity_of,
    level_on_connect,
    sql_text,
    uniques_of,
)
from .freeze import Freeze, freeze_all, freezer, frozen

Values = Mapping[str, Any]
Schemas = Mapping[str | None, str | None]
# What tells equal values apart: the database, the schemas in force, the namespace.
Where = tuple[Engine | Connection, Schemas, Hashable]


# A key is advice: the unique constraint is the judge. One that is too coarse costs a
# short wait, one that is too fine an INSERT that a rival has sent already, and neither
# costs more. So a key never fails a call, and it need not be exact; but it has to be
# cheap, because every request that has no connection yet makes one.
#
# Built anew for each call, it took 4 to 6 microseconds, more than the queue itself. So
# what does not depend on the values is compiled once for each plan and database, into a
# recipe: which constraint the lookup covers, in whose columns call sites that spell the
# lookup differently meet; and for each of these columns, where its value comes from and
# how it is made hashable, and equal where SQL's values are. Only SQL criteria, and
# partial or functional indexes, whose conditions may depend on the values, need a
# recipe for each call.
#
# The database is its engine's dialect object: each engine makes one, and shares it with
# the engines and connections that are derived from it; and it is public, which the root
# engine of an ``OptionEngine`` is not. Keys refer to it weakly, since they are
# remembered after their engine has gone.


class Place(NamedTuple):
    """Where a key's values belong."""

    database: ref[Dialect]
    # Translated by the ``schema_translate_map`` in force.
    schema: str | None
    table: str
    # By name, or as SQL.
    columns: tuple[str, ...]


# What a call queues for: the values of a place's columns, and the policy's namespace.
# To make such a tuple takes a tenth of the time that one with names does.
Key = tuple[Place, tuple[Hashable, ...], Hashable]

# Where the value of one column comes from, and what makes it plain.
_Part = tuple[Callable[[Values], Any], Freeze]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How to make the keys of one plan, for one database."""

    place: Place
    parts: tuple[_Part, ...]
    # Whether the engine gives its connections an isolation level.
    has_level: bool

    def key(self, values: Values, schemas: Schemas, namespace: Hashable) -> Key | None:
        try:
            key = tuple([freeze(read(values)) for read, freeze in self.parts])
        # A pending parent has no key yet, a list may contain itself, and so on: advice
        # does not fail the call.
        except Exception:  # noqa: BLE001
            return None
        place = self.place_in(schemas) if schemas else self.place
        return place, key, namespace

    def place_in(self, schemas: Schemas) -> Place:
        """Return the place, where schemas are translated."""
        schema = self.place.schema
        return self.place._replace(schema=schemas.get(schema, schema))

    def keys(
        self, rows: Sequence[Values], schemas: Schemas, namespace: Hashable
    ) -> list[Key | None]:
        """Return the keys of many rows."""
        with suppress(Exception):  # The rows are then read one by one.
            # By column, which is faster.
            columns = [
                freeze_all(freeze, list(map(read, rows))) for read, freeze in self.parts
            ]
            place, values = self.place_in(schemas), zip(*columns, strict=True)
            return list(zip(repeat(place), values, repeat(namespace)))
        return [self.key(row, schemas, namespace) for row in rows]


def key_of(lookup: Lookup[Any], where: Where) -> Key | None:
    """Return the key, or ``None`` where only the database knows what is meant."""
    bind, schemas, namespace = where
    recipe = _recipe_for(lookup, bind.dialect)
    return None if recipe is None else recipe.key(lookup.values, schemas, namespace)


def known_key_of(
    plan: Plan[Any], values: Values, dialect: Dialect, namespace: Hashable
) -> Key | None:
    """Return the key where no schema is translated; ``None``: none has been made."""
    try:
        recipe: _Recipe | None = dialect.__dict__["_async_goc"][plan]
    except KeyError:
        return None
    # It may be AUTOCOMMIT, which is refused where it does harm.
    if recipe is None or recipe.has_level:
        return None
    return recipe.key(values, {}, namespace)


def keys_of(
    lookup: Lookup[Any],
    rows: Sequence[Values],
    where: Where,
) -> list[Key | None]:
    """Return the keys of lookups that have this one's plan, and *rows* for values."""
    bind, schemas, namespace = where
    if not _has_fixed_recipe(lookup, bind.dialect):
        one, keys = copy(lookup), list[Key | None]()
        for one.values in rows:
            keys.append(key_of(one, where))
        return keys
    recipe = _recipe_for(lookup, bind.dialect)
    none: list[Key | None] = [None] * len(rows)
    return none if recipe is None else recipe.keys(rows, schemas, namespace)


def _recipe_for(lookup: Lookup[Any], dialect: Dialect) -> _Recipe | None:
    plan = lookup.plan
    if not _has_fixed_recipe(lookup, dialect):
        return _recipe(plan, lookup.conditions(), dialect)
    try:
        recipe: _Recipe | None = dialect.__dict__["_async_goc"][plan]
    except KeyError:
        # Kept with the dialect, because the types' functions may refer to it, and
        # weakly by the plan, which goes with its model.
        recipes = dialect.__dict__.setdefault("_async_goc", WeakKeyDictionary())
        recipe = recipes[plan] = _recipe(plan, plan.conditions, dialect)
    return recipe


def names_of(key: Key) -> str:
    """Return what the key's columns are called in a message, which has no values."""
    names = [c if c.isidentifier() else "an expression" for c in key[0].columns]
    return ", ".join(names)


def models_of(key: Key) -> list[str]:
    """Return the names of the models that such keys were made for, as far as known."""
    place, _, _ = key
    dialect = place.database()
    recipes: Mapping[Plan[Any], _Recipe | None] = (
        {} if dialect is None else dialect.__dict__.get("_async_goc", {})
    )
    names = {
        plan.model.__name__
        for plan, recipe in list(recipes.items())
        if recipe is not None
        and (recipe.place.table, recipe.place.columns) == (place.table, place.columns)
    }
    return sorted(names)


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
    """Compile the conditions on the covering constraint, or else all equalities."""
    known = None if plan.is_covered else dialect
    found = covering(plan.mapper, conditions, known)
    table: Any = plan.mapper.local_table
    if found is not None:
        # In the constraint's own columns, call sites that look up by more of them meet.
        table, conditions = found[0].table, found[1]
    sources = {parameter: source for parameter, *source in plan.binds}
    equalities = filter(None, map(equality, conditions))
    parts = [_part(found, sources, dialect) for found in equalities]
    if not parts:
        return None  # There is nothing to tell keys apart by.
    parts.sort(key=itemgetter(0))
    place = Place(
        ref(dialect),
        getattr(table, "schema", None),
        getattr(table, "name", ""),  # A mapped join has none.
        tuple(label for label, _ in parts),
    )
    has_level = level_on_connect(dialect) is not None
    return _Recipe(place, tuple(part for _, part in parts), has_level)


def label_of(left: Any, dialect: Dialect) -> str:
    """Return what a key calls the column, or the expression, that is compared."""
    if isinstance(left, Column):
        return left.name
    # The text may contain a value, and be as long.
    return str(frozen(str(sql_text(left, dialect))))


def _part(
    found: Equality, sources: Mapping[str, Sequence[Any]], dialect: Dialect
) -> tuple[str, _Part]:
    """Return the label of a column, and how to read its value."""
    left: Any = found.left
    freeze = freezer(left.type, dialect)
    label = label_of(left, dialect)
    source = None if found.is_null else sources.get(getattr(found.right, "key", ""))
    if source is None:
        value = found.value  # The column would keep the model alive.
        return label, (lambda _: value, freeze)
    name, position = source
    if position is None:
        return label, (itemgetter(name), freeze)

    def parent_key(values: Values) -> Any:
        return identity_of(values[name])[position]

    return label, (parent_key, freeze)
