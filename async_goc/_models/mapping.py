"""Remember what is known of a mapped class, and say what its columns are."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, inspect
from sqlalchemy.orm import InstanceState, Mapper

T = TypeVar("T")


def memory(mapper: Mapper[Any], key: object, make: Callable[[], T]) -> T:
    """Return what is known about *mapper* under *key*, making it the first time.

    It lives on the mapper and goes with it. (A WeakKeyDictionary would keep every
    model for ever: each value, a statement for one, refers to its own key.)
    """
    known: dict[object, Any] = vars(mapper).setdefault("_async_goc", {})
    if key not in known:
        # Two threads may both make it; either result serves.
        known[key] = make()
    found: T = known[key]
    return found


def columns_of(mapper: Mapper[Any]) -> dict[str, Column[Any]]:
    """Return the table's columns, by attribute name."""
    return memory(
        mapper,
        "columns",
        lambda: {
            prop.key: column
            for prop in mapper.column_attrs
            if isinstance(column := prop.columns[0], Column)
        },
    )


def nullable(mapper: Mapper[Any]) -> frozenset[str]:
    """Return the keys of the columns for which a flush sends NULL by default."""
    return memory(
        mapper,
        "nullable",
        lambda: frozenset(
            column.key
            for column in columns_of(mapper).values()
            if not (column.primary_key or column.server_default or column.default)
            and not column.type.should_evaluate_none
        ),
    )


def readable(mapper: Mapper[Any]) -> frozenset[str]:
    """The column attributes that a plain SELECT loads."""
    return memory(
        mapper,
        "readable",
        lambda: frozenset(p.key for p in mapper.column_attrs if not p.deferred),
    )


def has_joins(mapper: Mapper[Any]) -> bool:
    """Whether loading it may repeat a row, for each member of a collection."""
    return any(
        prop.lazy in {"joined", False}
        for relative in mapper.self_and_descendants
        for prop in relative.relationships
    )


def identity_of(parent: Any) -> Sequence[Any]:
    """The parent's primary key, also while its attributes are expired."""
    state: InstanceState[Any] = inspect(parent)
    return state.identity or ()
