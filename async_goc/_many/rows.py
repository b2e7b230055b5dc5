"""Tell the rows of a bulk call apart, and put them in order."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any, Final, Generic
from uuid import UUID

from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, QueryableAttribute

from .._lookup import Lookup, Plan, plan_for
from .._models import Field, T, has_joins, identity_of, lookup_field
from .._turns import PLAIN, Freeze, Key, freezer

# The values of each of these have one order among themselves, in every process.
_ORDERED: Final[tuple[Any, ...]] = (str, int | float | Decimal, bytes, UUID)


@dataclass(slots=True, eq=False)
class Row(Generic[T]):
    """One key of the input, and what has become of it.

    Attributes:
        values: The first mapping that has the key.
        key: The values of the key's columns.
        frozen: The same, made comparable.
        given: What a new row gets.
        instance: The instance, once there is one.
        is_created: Whether this call has inserted it.
        turn: What it is queued for.
    """

    values: Mapping[str, Any]
    key: tuple[Any, ...]
    frozen: tuple[Hashable, ...]
    given: Mapping[str, Any]
    instance: T | None = None
    is_created: bool = False
    turn: Key | None = None


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

    def keys(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the values of the key's columns."""
        columns: list[list[Any]] = []
        for named in self.fields:
            column = [row[named.name] for row in rows]
            if named.parent is None:
                columns += [column] * len(named.columns)
                continue
            identities = [None if v is None else identity_of(v) for v in column]
            columns += [
                [None if i is None else i[position] for i in identities]
                for position in named.key_positions
            ]
        return list(zip(*columns, strict=True))

    def lookup(self, row: Mapping[str, Any]) -> Lookup[Any]:
        """Return what :func:`get_or_create` would look up for a mapping."""
        values = {name: row[name] for name in self.names}
        nulls = tuple([value is None for value in values.values()])
        plan = self._plans.get(nulls)
        if plan is None:
            plan = self._plans[nulls] = plan_for(self.mapper.class_, values)
        return Lookup(plan, values, (), plan.statement, (), (), lock=None)

    def alike(
        self, rows: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Lookup[Any], Sequence[int]]]:
        """Return the places of rows with NULLs for the same names, and a lookup."""
        values = [[row[name] for row in rows] for name in self.names]
        groups = by_nulls(list(zip(*values, strict=True)))
        return [(self.lookup(rows[places[0]]), places) for places in groups.values()]

    def frozen(self, keys: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Hashable, ...]]:
        """Make keys comparable."""
        if self._is_plain and PLAIN.issuperset(map(type, chain.from_iterable(keys))):
            return keys
        return [
            tuple([f(v) for f, v in zip(self._freezers, key, strict=True)])
            for key in keys
        ]

    def keys_of(self, instances: Iterable[object]) -> Sequence[tuple[Hashable, ...]]:
        """Return the keys of loaded instances, comparable."""
        loaded = [vars(instance) for instance in instances]
        columns = [[values.get(a.key) for values in loaded] for a in self.attributes]
        return self.frozen(list(zip(*columns, strict=True)))


def distinct(
    rows: Sequence[Mapping[str, Any]], shape: Shape
) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Return the row of each mapping, and all rows in the order of their keys.

    Every call that has the same keys comes to the same order, in every process: so
    they take what they lock in one order, and cannot deadlock.
    """
    known: dict[tuple[Hashable, ...], Row[Any]] = {}
    asked: list[Row[Any]] = []
    keys = shape.keys(rows)
    for values, key, frozen in zip(rows, keys, shape.frozen(keys), strict=True):
        row = known.get(frozen)
        if row is None:
            row = known[frozen] = Row(values, key, frozen, values)
        asked.append(row)
    kinds = [set[Any](map(type, column)) for column in zip(*known, strict=True)]
    # Of one kind, they are in the same order without the rank of their kind.
    is_alike = all(len(k) == 1 and issubclass(k.pop(), _ORDERED) for k in kinds)
    return asked, sorted(known.values(), key=_alone if is_alike else _ranked)


def by_nulls(
    keys: Sequence[Sequence[object]],
) -> Mapping[tuple[bool, ...], Sequence[int]]:
    """Return the places of the keys that have NULLs in the same columns."""
    if keys and NoneType not in set(map(type, chain.from_iterable(keys))):
        return {(False,) * len(keys[0]): range(len(keys))}
    places: dict[tuple[bool, ...], list[int]] = {}
    for place, key in enumerate(keys):
        nulls = tuple([value is None for value in key])
        places.setdefault(nulls, []).append(place)
    return places


def _alone(row: Row[Any]) -> Any:
    """Return a key of one column as its value, which is compared faster."""
    return row.frozen[0] if len(row.frozen) == 1 else row.frozen


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
