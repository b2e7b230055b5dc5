"""Say which columns an INSERT of many rows sends, and what fills them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Column
from sqlalchemy.orm import Mapper

from .._models import columns_of, is_generated, nullable, remembered

# What makes a default.
Maker = Callable[[], Any]

DIFFERENT: Final = object()


@dataclass(frozen=True, slots=True, eq=False)
class Same:
    """Makes a default that is the same for all rows."""

    value: Any

    def __call__(self) -> Any:
        return self.value


def sent_columns(
    mapper: Mapper[Any], key: Collection[str]
) -> tuple[dict[str, Maker | None], dict[str, bool]]:
    """Return the columns that rows with that key always send, and the others."""
    sent, others = _columns(mapper)
    columns = columns_of(mapper)
    # What a row is looked up by is stored as it is: None as NULL, and not as a default.
    sent = {**sent, **{n: None for n in key if not is_generated(columns[n])}}
    return sent, {n: others[n] for n in others if n not in key}


def filled_by(row: Mapping[str, Any], others: Mapping[str, bool]) -> tuple[str, ...]:
    """Return those of the other columns that the row has values for."""
    names = [n for n in others if n in row and (row[n] is not None or others[n])]
    return tuple(names)


def the_same(make: Maker | None) -> Any:
    """Return what a column without values has in each row, if that is the same."""
    if make is None:
        return None
    return make.value if isinstance(make, Same) else DIFFERENT


@remembered
def _columns(mapper: Mapper[Any]) -> tuple[dict[str, Maker | None], dict[str, bool]]:
    """Return the columns that every row sends a value for, and the others."""
    # The former come with the function that makes their default, or with None where a
    # flush sends NULL. The others are filled by SQLAlchemy or by the database, unless a
    # row has a value for them. They come with whether None is a value (a JSON null).
    sent: dict[str, Maker | None] = {}
    others: dict[str, bool] = {}
    identity = mapper.polymorphic_identity
    for name, column in columns_of(mapper).items():
        make = _maker(column)
        if column is mapper.polymorphic_on:
            sent[name] = Same(identity)
        elif make is not None or column.key in nullable(mapper):
            sent[name] = make
        else:
            others[name] = column.type.should_evaluate_none
    return sent, others


def _maker(column: Column[Any]) -> Maker | None:
    """Return what makes the column's default, if that depends on nothing else."""
    default: Any = column.default
    # A JSON null is a value: there, the default is for rows without the column only.
    if not has_default_here(column) or column.type.should_evaluate_none:
        return None
    if default.is_scalar:
        return Same(default.arg)
    return None if _takes_context(column) else partial(default.arg, None)


@remembered
def has_contextual_default(mapper: Mapper[Any]) -> bool:
    """Whether a default in Python is made of the row's other values."""
    columns: Any = mapper.local_table.columns
    return any(has_default_here(c) and _takes_context(c) for c in columns)


def is_called(default: Any) -> bool:
    """Whether a function makes the default."""
    return default is not None and default.is_callable


def _takes_context(column: Any) -> bool:
    default = column.default
    # SQLAlchemy has wrapped those that take no context, whatever else they may take.
    is_wrapped = hasattr(getattr(default, "arg", None), "__wrapped__")
    return is_called(default) and not is_wrapped


def has_default_here(column: Column[Any]) -> bool:
    """Whether the column has a default that is made in Python."""
    default: Any = column.default
    return default is not None and (default.is_scalar or default.is_callable)
