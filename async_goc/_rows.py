"""Tell the rows of a bulk call apart, and put them in order."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Any, Final, Generic
from uuid import UUID

from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, QueryableAttribute

from ._fields import Field, T, lookup_field
from ._freeze import PLAIN, Freeze, freezer
from ._key import Key
from ._lookup import Lookup
from ._plan import Plan, has_joins, identity_of, plan_for

# The values of each of these have one order among themselves, in every process.
_ORDERED: Final[tuple[Any, ...]] = (str, int | float | Decimal, bytes, UUID)
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
    given: Mapping[str, Any] = field(default_factory=dict[str, Any])


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
        for named in self.fields:
            if not named.is_plain:
                msg = (
                    f"{mapper.class_.__name__}.{named.name} cannot be a key of many "
                    "rows; name columns, or many-to-one relationships"
                )
                raise ValueError(msg)
        self.attributes: list[QueryableAttribute[Any]] = [
            mapper.get_property_by_column(column).class_attribute
            for named in self.fields
            for column in named.columns
        ]
        self.has_parents: bool = any(named.parent for named in self.fields)
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
        for named in self.fields:
            value = values[named.name]
            if named.parent is None or value is None:
                key += [value] * len(named.columns)
            else:
                identity = identity_of(value)
                key += [identity[position] for position in named.key_positions]
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
    # Of one kind, they are in the same order without the rank of their kind.
    is_alike = len(kinds) == 1 and all(
        issubclass(k, _ORDERED) for k in next(iter(kinds))
    )
    return asked, sorted(known.values(), key=_FROZEN if is_alike else _ranked)


def _ranked(row: Row[Any]) -> list[tuple[int, Any]]:
    """By kind first: values of different kinds have no order."""
    return [_rank(value) for value in row.frozen]


def _rank(value: Hashable) -> tuple[int, Any]:
    for rank, kind in enumerate(_ORDERED):
        if isinstance(value, kind):
            return rank, value
    if isinstance(value, datetime):
        is_aware = value.utcoffset() is not None
        return len(_ORDERED) + is_aware, value
    return len(_ORDERED) + 2, value.isoformat() if isinstance(value, date) else repr(
        value
    )
