"""Check the input of a bulk call, before any SQL."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper

from .._call import Call
from .._databases import dialect_of
from .._lookup import parents_of, plan_for, require_cover
from .._models import SQL, Unique, default_field, uniques_of, unknown_field
from .._new_row import Arguments, Defaults, NewValues
from .rows import Row, Shape, distinct

# Enough to make round trips a small part; a statement's arrays stay below a megabyte
# or two.
_CHUNK: Final = 10_000


@dataclass(frozen=True, slots=True)
class Input:
    """The input of a bulk call, checked."""

    shape: Shape
    # The row of each mapping, in the order of the input.
    asked: Sequence[Row[Any]]
    # Each row once, in the order of the keys.
    rows: Sequence[Row[Any]]
    # What fills the names that a new row lacks.
    defaults: NewValues
    # The names whose values an existing row gets.
    changes: frozenset[str]


async def read(
    call: Call,
    mapper: Mapper[Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str | Sequence[str] | None,
    update: Sequence[str] | None,
    defaults: Defaults | None,
) -> Input:
    """Check the rows and tell them apart; flush pending parents for their keys."""
    takes = Arguments(None, mapper)
    named = check_names(mapper, rows, takes)
    names = (key,) if isinstance(key, str) else key
    dialect = dialect_of(call.session, mapper)
    shape = Shape(mapper, tuple(names or infer(mapper, named)), dialect)
    has_pending = check_keys(call.session, shape, rows, named)
    lookups = [lookup for lookup, _ in shape.alike(rows)]
    for lookup in lookups:
        require_cover(call, lookup)
    new_values = NewValues(lookups[0], defaults, takes=takes, may_contradict=True)
    changes = changed_names(shape, named, update)
    if has_pending:
        await call.session.flush()
    return Input(shape, *distinct(rows, shape), new_values, changes)


def check_names(
    mapper: Mapper[Any], rows: Sequence[Mapping[str, Any]], takes: Container[str]
) -> list[tuple[str, ...]]:
    """Return what the rows name, each set of names once.

    Raises:
        TypeError: A row is no mapping.
        UnknownFieldError: A row names something that the model cannot take.
    """
    kinds = set[Any](map(type, rows))
    strange = {kind for kind in kinds if not issubclass(kind, Mapping)}
    for index, row in enumerate(rows if strange else ()):
        if type(row) in strange:
            msg = f"row {index} is {row!r}; give mappings of attribute names to values"
            raise TypeError(msg)
    named = list(dict.fromkeys(map(tuple, rows)))
    for name in dict.fromkeys(chain(*named)):
        if default_field(mapper, name) is None and name not in takes:
            raise unknown_field(mapper, name)
    return named


def check_keys(
    session: AsyncSession,
    shape: Shape,
    rows: Sequence[Mapping[str, Any]],
    named: Iterable[Sequence[str]],
) -> bool:
    """Refuse rows without a key; say whether a parent has to be flushed for its key.

    Raises:
        ValueError: A row lacks a name of the key, or has SQL there; or a parent is not
            in the session.
        TypeError: A parent is of the wrong class.
    """
    for name in shape.names:
        if not all(name in names for names in named):
            index = next(i for i, row in enumerate(rows) if name not in row)
            raise _no_key(shape, index, "no", name)
        kinds: set[Any] = {type(row[name]) for row in rows}
        if any(issubclass(kind, SQL) for kind in kinds):
            index = next(i for i, row in enumerate(rows) if isinstance(row[name], SQL))
            raise _no_key(shape, index, "an SQL expression as", name)
    has_pending = False
    for row in rows if shape.has_parents else ():
        plan = plan_for(shape.mapper.class_, {n: row[n] for n in shape.names})
        for parent in parents_of(session, plan, row):
            state: Any = inspect(parent)
            has_pending = has_pending or state.pending
    return has_pending


def _no_key(shape: Shape, index: int, what: str, name: str) -> ValueError:
    return ValueError(
        f"row {index} of {shape.mapper.class_.__name__} has {what} {name!r}, which is "
        "part of the key; give each row a value for it"
    )


def infer(mapper: Mapper[Any], named: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names that make up the one unique constraint that every row covers.

    Raises:
        ValueError: There is none, or there are several.
    """
    common = set(named[0]).intersection(*named)
    found = {
        names: unique
        for unique in uniques_of(mapper, None)
        if (names := _names(mapper, unique, common))
    }
    if len(found) == 1:
        return next(iter(found))
    listed = ", ".join(f"({', '.join(names)})" for names in sorted(found))
    why = f"several do: {listed}" if found else "none does"
    msg = (
        f"key is None, so that one unique constraint of {mapper.class_.__name__} has "
        f"to be covered by every row, and {why}; name the key"
    )
    raise ValueError(msg)


def _names(mapper: Mapper[Any], unique: Unique, names: set[str]) -> tuple[str, ...]:
    """Return those of *names* that together give all columns of the constraint."""
    chosen: dict[str, set[Any]] = {}
    for name in sorted(names):
        field = default_field(mapper, name)
        columns: set[Any] = set()
        if field is not None and field.is_plain:
            columns.update(field.columns)
        given = set[Any]().union(*chosen.values())
        if columns and columns <= unique.columns and not columns <= given:
            chosen[name] = columns
    is_whole = unique.columns <= set[Any]().union(*chosen.values())
    return tuple(chosen) if is_whole else ()


def checked_size(chunk_size: int | None) -> int:
    """Return the size, if it is one.

    Raises:
        ValueError: It is less than one.
    """
    if chunk_size is None:
        return _CHUNK
    if chunk_size < 1:
        msg = f"chunk_size is {chunk_size}; it counts keys, so give at least 1"
        raise ValueError(msg)
    return chunk_size


def changed_names(
    shape: Shape, named: Iterable[Sequence[str]], update: Sequence[str] | None
) -> frozenset[str]:
    """Return the names whose values an existing row gets.

    Raises:
        ValueError: One is a part of the key, or of the primary key.
        UnknownFieldError: One is no attribute of the model.
    """
    fixed = {*shape.mapper.primary_key}.union(*(f.columns for f in shape.fields))
    names = frozenset[str]().union(*named) if update is None else frozenset(update)
    changed: set[str] = set()
    for name in names:
        field = default_field(shape.mapper, name)
        if update is not None and field is None:
            raise unknown_field(shape.mapper, name)
        if field is not None and fixed.isdisjoint(field.columns):
            changed.add(name)
        elif update is not None:
            msg = (
                f"update names {name!r}, a part of the key or of the primary key, "
                "which says which row it is; leave it out"
            )
            raise ValueError(msg)
    return frozenset(changed)
