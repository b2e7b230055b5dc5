"""Read the rows of a bulk call: check them, tell them apart, and put them in order."""

from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Generic, cast
from uuid import UUID

from sqlalchemy import inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, QueryableAttribute

from ._arguments import parents_of
from ._coverage import Unique, uniques_of
from ._criteria import SQL
from ._fields import Field, T, default_field, lookup_field, unknown
from ._freeze import PLAIN, Freeze, freezer
from ._key import Key
from ._lookup import Lookup
from ._plan import Plan, has_joins, identity_of, plan_for

# Those whose values have one order, in every process.
_ORDERED: Final = frozenset(
    {str, int, float, bytes, bool, date, datetime, Decimal, UUID}
)
_FROZEN: Final = attrgetter("frozen")


@dataclass(slots=True, eq=False)
class Row(Generic[T]):
    """One key of the input, and what has become of it.

    Attributes:
        values: The first mapping that has the key.
        key: The values of the key's columns.
        frozen: The same, made comparable.
        count: How many mappings of the input have the key.
        instance: The instance, once there is one.
        is_created: Whether this call has inserted it.
        turn: What it is queued for.
        given: What a new row gets.
    """

    values: Mapping[str, Any]
    key: tuple[Any, ...]
    frozen: tuple[Hashable, ...]
    count: int = 0
    instance: T | None = None
    is_created: bool = False
    turn: Key | None = None
    given: Mapping[str, Any] = MappingProxyType({})


class Shape:
    """The columns that tell a model's rows apart.

    Args:
        mapper: The model's mapper.
        names: The attributes that identify a row: columns, and many-to-ones.
        dialect: The database's.

    Attributes:
        mapper: The mapper.
        names: The names.
        fields: What they stand for.
        attributes: The columns' attributes, in their order.
        has_parents: Whether there are instances among a key's values.
        is_joined: Whether a look may repeat a row.

    Raises:
        UnknownFieldError: A name is no mapped attribute.
        ValueError: A name is one that cannot identify a row, or only by SQL.
    """

    def __init__(
        self, mapper: Mapper[Any], names: tuple[str, ...], dialect: Dialect
    ) -> None:
        self.mapper = mapper
        self.names = names
        self.fields: list[Field] = [lookup_field(mapper.class_, n) for n in names]
        for field in self.fields:
            if not field.is_plain:
                msg = (
                    f"{mapper.class_.__name__}.{field.name} cannot be a key of many "
                    "rows; name columns, or many-to-one relationships"
                )
                raise ValueError(msg)
        self.attributes: list[QueryableAttribute[Any]] = [
            mapper.get_property_by_column(column).class_attribute
            for field in self.fields
            for column in field.columns
        ]
        self.has_parents: bool = any(field.parent for field in self.fields)
        self.is_joined: bool = has_joins(mapper)
        # By which of the names are NULL.
        self._plans: dict[tuple[bool, ...], Plan[Any]] = {}
        self._freezers: list[Freeze] = [
            freezer(attribute.type, dialect, is_exact=True)
            for attribute in self.attributes
        ]
        # Most keys are comparable as they are.
        self._is_plain = all(isinstance(f, partial) for f in self._freezers)

    def key(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values of the key's columns."""
        key: list[Any] = []
        for field in self.fields:
            value = values[field.name]
            if field.parent is None or value is None:
                key += [value] * len(field.columns)
            else:
                identity = identity_of(value)
                key += [identity[position] for position in field.key_positions]
        return tuple(key)

    def lookup(self, row: Mapping[str, Any]) -> Lookup[Any]:
        """Return what :func:`get_or_create` would look up for a mapping."""
        values = {name: row[name] for name in self.names}
        nulls = tuple([value is None for value in values.values()])
        plan = self._plans.get(nulls)
        if plan is None:
            plan = self._plans[nulls] = plan_for(self.mapper.class_, values)
        return Lookup(plan, values, (), plan.statement, (), (), is_locking=False)

    def lookups(self, rows: Iterable[Mapping[str, Any]]) -> list[Lookup[Any]]:
        """Return one lookup for each way in which rows have NULLs in their keys."""
        by_nulls = {tuple([row[n] is None for n in self.names]): row for row in rows}
        return [self.lookup(row) for row in by_nulls.values()]

    def frozen(self, key: Sequence[Any]) -> tuple[Hashable, ...]:
        """Make a key comparable."""
        if self._is_plain and PLAIN.issuperset(map(type, key)):
            return tuple(key)
        return tuple([f(v) for f, v in zip(self._freezers, key, strict=True)])

    def key_of(self, instance: object) -> tuple[Hashable, ...]:
        """Return a loaded instance's key, comparable."""
        return self.frozen([vars(instance).get(a.key) for a in self.attributes])


def check_names(
    mapper: Mapper[Any], rows: Iterable[Mapping[str, Any]], takes: Container[str]
) -> list[Mapping[str, Any]]:
    """Return the rows, once it is known that the model can take all that they name.

    Raises:
        TypeError: A row is no mapping.
        UnknownFieldError: A row names something that the model cannot take.
    """
    checked: list[Mapping[str, Any]] = []
    seen: set[tuple[str, ...]] = set()
    for index, row in enumerate(rows):
        if not isinstance(cast("object", row), Mapping):
            msg = f"row {index} is {row!r}; give mappings of attribute names to values"
            raise TypeError(msg)
        names = tuple(row)
        if names not in seen:
            seen.add(names)
            for name in names:
                if default_field(mapper, name) is None and name not in takes:
                    raise unknown(mapper, name)
        checked.append(row)
    return checked


def check_keys(
    session: AsyncSession, shape: "Shape", rows: Sequence[Mapping[str, Any]]
) -> bool:
    """Refuse rows without a key; say whether a parent has to be flushed for its key.

    Raises:
        ValueError: A row lacks a name of the key, or has SQL there; or a parent is not
            in the session.
        TypeError: A parent is of the wrong class.
    """
    has_pending = False
    for index, row in enumerate(rows):
        for name in shape.names:
            if name not in row or isinstance(row[name], SQL):
                what = "an SQL expression as" if name in row else "no"
                msg = (
                    f"row {index} of {shape.mapper.class_.__name__} has {what} "
                    f"{name!r}, which is part of the key; give each row a value for it"
                )
                raise ValueError(msg)
        if shape.has_parents:
            plan = plan_for(shape.mapper.class_, {n: row[n] for n in shape.names})
            for parent in parents_of(session, plan, row):
                state: Any = inspect(parent)
                has_pending = has_pending or state.pending
    return has_pending


def infer(mapper: Mapper[Any], rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names that make up the one unique constraint that every row covers.

    Raises:
        ValueError: There is none, or there are several.
    """
    common = set(rows[0]).intersection(*rows)
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


def distinct(
    rows: Iterable[Mapping[str, Any]], shape: Shape
) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Return the row of each mapping, and all rows in the order of their keys.

    Every call that has the same keys comes to the same order, in every process: so
    they take what they lock in one order, and cannot deadlock.
    """
    known: dict[Hashable, Row[Any]] = {}
    asked: list[Row[Any]] = []
    for values in rows:
        key = shape.key(values)
        frozen = shape.frozen(key)
        row = known.get(frozen)
        if row is None:
            row = known[frozen] = Row(values, key, frozen)
        row.count += 1
        asked.append(row)
    kinds = {tuple(map(type, row.frozen)) for row in known.values()}
    # Of one kind, they are in the same order without the type.
    is_alike = len(kinds) == 1 and _ORDERED.issuperset(*kinds)
    return asked, sorted(known.values(), key=_FROZEN if is_alike else _rank)


def _rank(row: Row[Any]) -> list[tuple[str, Any]]:
    """By type first: values of different types have no order."""
    return [
        (type(value).__name__, value if type(value) in _ORDERED else repr(value))
        for value in row.frozen
    ]
