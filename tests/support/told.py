"""Tell of instances, errors and tables what two runs of one call have in common."""

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapper, class_mapper

# What the database makes is another value each time: positive keys (those that tests
# give are negative), and the time.
MADE = "made"
CLOCKS = {"made_at"}


def _value(name: str, value: Any) -> Any:
    is_key = name == "id" or name.endswith("_id")
    if name in CLOCKS or (is_key and type(value) is int and value > 0):
        return MADE, type(value).__name__
    return type(value).__name__, repr(value)


def told(value: Any, name: str = "", around: Collection[int] = ()) -> Any:
    """What a call has returned, with all that is loaded of each instance."""
    if isinstance(sa.inspect(type(value), raiseerr=False), Mapper):
        return _instance(value, around)
    if isinstance(value, Mapping):
        members: Any = {key: told(each, "", around) for key, each in value.items()}
    elif isinstance(value, list | tuple | set) or hasattr(value, "_sa_adapter"):
        members = [told(each, "", around) for each in value]
    else:
        return _value(name, value)
    return type(value).__name__, members


def _instance(instance: Any, around: Collection[int]) -> Any:
    state: Any = sa.inspect(instance)
    if id(instance) in around:
        return "around", type(instance)
    around = {*around, id(instance)}
    loaded = {
        name: told(value, name, around)
        for name, value in vars(instance).items()
        if not name.startswith("_")
    }
    mapper = state.mapper
    # What was never set is read as None, and asks no database.
    never_set = set(mapper.column_attrs.keys()) & state.unloaded
    never_set -= state.expired_attributes
    loaded |= {
        name: told(None) for name in never_set if not mapper.column_attrs[name].deferred
    }
    key = mapper.identity_key_from_instance(instance) if state.key else None
    dumped = instance.model_dump() if hasattr(instance, "model_dump") else {}
    return (
        type(instance),
        loaded,
        {"key": state.key == key, "modified": state.modified},
        {"expired": sorted(state.expired_attributes)},
        {name: _value(name, value) for name, value in dumped.items()},
    )


def _masked(text: object) -> str:
    """The text without keys and times that the database makes."""
    return re.sub(r"\d+", "#", str(text))


def told_error(error: BaseException) -> Any:
    notes = [_masked(note) for note in getattr(error, "__notes__", ())]
    told = type(error), type(error.__cause__), _masked(error), notes
    if isinstance(error, sa.exc.DBAPIError):
        return *told, type(error.orig), getattr(error.orig, "sqlstate", None)
    return *told, {name: _masked(value) for name, value in vars(error).items()}


def _tables(mapper: Mapper[Any], known: set[sa.Table]) -> set[sa.Table]:
    """The tables of the model, and of all that relationships lead to."""
    mappers = [*mapper.base_mapper.self_and_descendants]
    found = {t for m in mappers for t in m.tables if isinstance(t, sa.Table)}
    if not found <= known:
        known |= found
        for prop in {prop for each in mappers for prop in each.relationships}:
            if isinstance(prop.secondary, sa.Table):
                known.add(prop.secondary)
            _tables(prop.mapper, known)
    return known


@cache
def _in_order(models: frozenset[type[Any]]) -> list[sa.Table]:
    """The tables of the models, in an order in which they can be emptied."""
    tables = set().union(*(_tables(class_mapper(m), set()) for m in models))
    metadata = {table.metadata for table in tables}
    return [t for m in metadata for t in reversed(m.sorted_tables) if t in tables]


def take(connection: sa.Connection, models: Collection[type[Any]]) -> dict[str, Any]:
    """Return what is stored, and delete it."""
    stored: dict[str, Any] = {}
    for table in _in_order(frozenset(models)):
        found = connection.execute(sa.select(sa.text("*")).select_from(table))
        names = list(found.keys())
        rows = [tuple(map(_value, names, row)) for row in found]
        if rows:
            stored[table.name] = names, sorted(rows)
            connection.execute(table.delete())
    return stored
