"""Say what the names are that a bulk call's rows have values for."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy.orm import Mapper

from .._models import Unique, default_field, uniques_of, unknown_field
from .._new_row import takes_argument
from .rows import Shape, Values


def check_names(
    mapper: Mapper[Any], rows: Sequence[Values], key: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return what the rows name, each set of names once; refuse unknown names."""
    # What a row lists counts: a mapping may find, or have, more than that.
    named = list(dict.fromkeys(map(tuple, rows)))
    unknown = [
        name
        for name in dict.fromkeys(chain(*named))
        if not (
            name in key
            or default_field(mapper, name) is not None
            or takes_argument(None, mapper, name)
        )
    ]
    if unknown:
        raise unknown_field(mapper, *unknown)
    return named


def infer_key(mapper: Mapper[Any], named: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names that make up the one unique constraint that every row covers."""
    common = set(named[0]).intersection(*named)
    found = {
        _names_covering(mapper, unique, common) for unique in uniques_of(mapper, None)
    }
    found.discard(())
    if len(found) == 1:
        return found.pop()
    listed = ", ".join(f"({', '.join(names)})" for names in sorted(found))
    why = f"several do: {listed}" if found else "none does"
    msg = (
        f"key is None, so that one unique constraint of {mapper.class_.__name__} has "
        f"to be covered by every row, and {why}; name the key"
    )
    raise ValueError(msg)


def _names_covering(
    mapper: Mapper[Any], unique: Unique, names: set[str]
) -> tuple[str, ...]:
    """Return those of *names* that together give all columns of the constraint."""
    chosen: list[str] = []
    covered: set[Any] = set()
    for name in sorted(names):
        field = default_field(mapper, name)
        columns = field.columns if field is not None and field.is_plain else ()
        if unique.columns.issuperset(columns) and not covered.issuperset(columns):
            chosen.append(name)
            covered.update(columns)
    return tuple(chosen) if covered >= unique.columns else ()


def changed_names(
    shape: Shape, named: Iterable[Sequence[str]], update: Sequence[str] | None
) -> frozenset[str]:
    """Return the names whose values an existing row gets."""
    fixed = {*shape.mapper.primary_key}.union(*(f.columns for f in shape.fields))
    names = frozenset[str]().union(*named) if update is None else frozenset(update)
    changed: set[str] = set()
    for name in names:
        field = default_field(shape.mapper, name)
        if field is not None and fixed.isdisjoint(field.columns):
            changed.add(name)
        elif update is not None:
            if field is None:
                raise unknown_field(shape.mapper, name)
            msg = (
                f"update names {name!r}, a part of the key or of the primary key, "
                "which says which row it is; leave it out"
            )
            raise ValueError(msg)
    return frozenset(changed)
