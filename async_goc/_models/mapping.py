"""Remember what is known of a mapped class, and say what its columns are."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from sqlalchemy import Column, TypeDecorator, inspect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import InstanceState, Mapper

T = TypeVar("T")

# None is a value that is remembered, too.
_MISSING: Final = object()
_ANY_DATABASE: Final = DefaultDialect()
# How many different calls of one model are remembered.
_MOST_CALLS: Final = 200
_Calls = OrderedDict[object, Any]


def memory(mapper: Mapper[Any], key: object, make: Callable[[], T]) -> T:
    """Return what is known of *mapper* under *key*, making it the first time."""
    # It is kept on the mapper, and goes with the model. A WeakKeyDictionary would keep
    # every model for ever, because a value (a statement, say) refers to its own key.
    known: dict[object, Any] = mapper.__dict__.setdefault("_async_goc", {})
    found: T = known.get(key, _MISSING)
    if found is _MISSING:
        # Two threads may both make it; either result serves.
        found = known[key] = make()
    return found


def recalled(mapper: Mapper[Any], key: object) -> Any:
    """Return what was made for calls that have *key* in common, if that was lately."""
    try:
        known: _Calls = mapper.__dict__["_async_goc"]["calls"]
        found = known[key]
    except KeyError:
        return None
    # Most models are asked for in few ways, and need no order of their use.
    if len(known) > _MOST_CALLS // 2:
        with suppress(KeyError):  # Another thread may have dropped it.
            known.move_to_end(key)
    return found


def recall(mapper: Mapper[Any], key: object, make: Callable[[], T]) -> T:
    """Return what is made for calls that have *key* in common, and remember it."""
    found: T | None = recalled(mapper, key)
    if found is None:
        # Callers, and their clients, decide how many different calls there are.
        known = memory(mapper, "calls", _Calls)
        found = known[key] = make()
        if len(known) > _MOST_CALLS:
            known.popitem(last=False)
    return found


def remembered(find: Callable[[Mapper[Any]], T]) -> Callable[[Mapper[Any]], T]:
    """Let *find*, a function of a mapper alone, run once for each mapper."""

    # Most calls find it, and are spared the function that `memory` would be given.
    def remember(mapper: Mapper[Any]) -> T:
        try:
            found: T = mapper.__dict__["_async_goc"][find]
        except KeyError:
            found = memory(mapper, find, lambda: find(mapper))
        return found

    return remember


@remembered
def columns_of(mapper: Mapper[Any]) -> dict[str, Column[Any]]:
    """Return the table's columns, by attribute name."""
    columns = {prop.key: prop.columns[0] for prop in mapper.column_attrs}
    # A column_property() of an SQL expression has no column of a table.
    return {key: c for key, c in columns.items() if isinstance(c, Column)}


def is_generated(column: Any) -> bool:
    """Whether the database computes the column, so that no row can be given it."""
    # An identity column is none, even GENERATED ALWAYS: nothing else in a new row could
    # make it what was asked for, and so the database's refusal is the right answer.
    return getattr(column, "computed", None) is not None


@remembered
def nullable(mapper: Mapper[Any]) -> frozenset[str]:
    """Return the keys of the columns for which a flush sends NULL by default."""
    return frozenset(
        column.key
        for column in columns_of(mapper).values()
        if not (column.primary_key or column.server_default or column.default)
        and not column.type.should_evaluate_none
    )


@remembered
def replacing_none(mapper: Mapper[Any]) -> frozenset[str]:
    """Return the names of the columns for which a flush may not store None as NULL."""
    return frozenset(
        prop.key
        for prop in mapper.column_attrs
        if any(isinstance(c, Column) and _replaces_none(c) for c in prop.columns)
    )


def _replaces_none(column: Column[Any]) -> bool:
    # There, None is a key that the database has yet to make.
    is_made = column is getattr(column.table, "autoincrement_column", None)
    if is_made or is_generated(column):
        return False
    return (
        column.default is not None
        or column.server_default is not None
        or column.type.should_evaluate_none
        or (isinstance(column.type, TypeDecorator) and _fills_in(column.type))
    )


def _fills_in(type_: TypeDecorator[Any]) -> bool:
    """Whether the type may make another value of None."""
    with suppress(Exception):  # It may know only some databases.
        process: Any = type_.dialect_impl(_ANY_DATABASE).bind_processor(_ANY_DATABASE)
        return process is not None and process(None) is not None
    return True


@remembered
def readable(mapper: Mapper[Any]) -> frozenset[str]:
    """Return the names of the column attributes that a plain SELECT loads."""
    return frozenset(prop.key for prop in mapper.column_attrs if not prop.deferred)


def has_joins(mapper: Mapper[Any]) -> bool:
    """Whether loading the model may repeat a row, once for each joined row."""
    return any(
        prop.lazy in {"joined", False}
        for relative in mapper.self_and_descendants
        for prop in relative.relationships
    )


def is_alone(mapper: Mapper[Any]) -> bool:
    """Whether its rows are all there is of its instances, and of no other class."""
    return mapper.polymorphic_on is None and not mapper.inherits


def identity_of(parent: Any) -> Sequence[Any]:
    """Return the parent's primary key, even while its attributes are expired."""
    state: InstanceState[Any] = inspect(parent)
    return state.identity or ()
