"""Tell the rows of a bulk call apart, and put them in one order."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Dialect
from sqlalchemy.orm import Mapper, QueryableAttribute

from .._lookup import Lookup, plan_for
from .._models import Field, has_joins, identity_of, lookup_field
from .._turns import PLAIN, Freeze, Key, freezer

Values = Mapping[str, Any]
Nulls = tuple[bool, ...]

# The values of each of these have one order among themselves, in every process.
_ORDERED: Final[tuple[Any, ...]] = (str, int | float | Decimal, bytes, UUID)


@dataclass(slots=True, eq=False)
class Row:
    """One key of the input, and what has become of it."""

    # The first mapping that has the key.
    values: Values
    # The values of the key's columns.
    key: tuple[Any, ...]
    # The same, made comparable.
    frozen: tuple[Hashable, ...]
    # What a new row gets.
    new_values: Values
    # None as long as no row is found or created.
    instance: Any = None
    # Whether this call has inserted it.
    is_created: bool = False
    # What the call queues for in this process, if it does.
    queue_key: Key | None = None


# The registry may take two keys for one, which costs a wait. Here that would merge two
# rows: `1 == True` in Python, but not in JSONB. So `is_exact` asks for keys that are
# equal only if the database's are. Two keys which only the database takes for equal
# become two rows, and the constraint decides between them.


class Shape:
    """The columns that tell a model's rows apart."""

    def __init__(
        self, mapper: Mapper[Any], names: tuple[str, ...], dialect: Dialect
    ) -> None:
        self.mapper = mapper
        # The names that the caller knows the key by: columns, and many-to-ones.
        self.names = names
        self.fields: list[Field] = [lookup_field(mapper.class_, n) for n in names]
        for field in self.fields:
            if not field.is_plain:
                msg = (
                    f"{mapper.class_.__name__}.{field.name} cannot be a key of many "
                    "rows; name columns, or many-to-one relationships"
                )
                raise ValueError(msg)
        # An attribute for each column of the key, foreign keys included.
        self.attributes: list[QueryableAttribute[Any]] = [
            mapper.get_property_by_column(column).class_attribute
            for field in self.fields
            for column in field.columns
        ]
        # Whether a SELECT of the model may repeat a row.
        self.is_joined: bool = has_joins(mapper)
        self._freezers: list[Freeze] = [
            freezer(attribute.type, dialect, is_exact=True)
            for attribute in self.attributes
        ]
        # Most keys are comparable as they are.
        self._is_plain = all(isinstance(f, partial) for f in self._freezers)

    def keys(self, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
        """Return the values of the key's columns."""
        columns: list[list[Any]] = []
        for field in self.fields:
            column = [row[field.name] for row in rows]
            if field.parent is None:
                columns += [column] * len(field.columns)
                continue
            identities = [None if v is None else identity_of(v) for v in column]
            columns += [
                [None if i is None else i[position] for i in identities]
                for position in field.key_positions
            ]
        return list(zip(*columns, strict=True))

    def lookup(self, row: Values) -> Lookup[Any]:
        """Return what :func:`get_or_create` would look up for a mapping."""
        values = {name: row[name] for name in self.names}
        plan = plan_for(self.mapper.class_, values)
        return Lookup(plan, values, (), plan.statement, (), (), lock=None)

    def alike(self, rows: Sequence[Values]) -> list[tuple[Lookup[Any], Sequence[int]]]:
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


# Calls that take locks in different orders deadlock: three keys in each
# transaction, in random order, made 51 % of PostgreSQL's and up to 90 % of MariaDB's
# transactions fail, and sorted keys none. So all rows of a call are put in the order of
# their keys before they are cut into chunks, and in every process in the same order.


def distinct(rows: Sequence[Values], shape: Shape) -> tuple[list[Row], list[Row]]:
    """Return the row of each mapping, and all rows in the order of their keys."""
    known: dict[tuple[Hashable, ...], Row] = {}
    asked: list[Row] = []
    keys = shape.keys(rows)
    for values, key, frozen in zip(rows, keys, shape.frozen(keys), strict=True):
        row = known.get(frozen)
        if row is None:
            row = known[frozen] = Row(values, key, frozen, values)
        asked.append(row)
    kinds = [set[Any](map(type, column)) for column in zip(*known, strict=True)]
    # Values of one kind have the same order without the rank of their kind.
    is_alike = all(len(k) == 1 and issubclass(k.pop(), _ORDERED) for k in kinds)
    return asked, sorted(known.values(), key=_single if is_alike else _ranked)


def by_nulls(keys: Sequence[Sequence[object]]) -> Mapping[Nulls, Sequence[int]]:
    """Return the places of the keys that have NULLs in the same columns."""
    if keys and NoneType not in set(map(type, chain.from_iterable(keys))):
        return {(False,) * len(keys[0]): range(len(keys))}
    places: dict[Nulls, list[int]] = {}
    for place, key in enumerate(keys):
        nulls = tuple([value is None for value in key])
        places.setdefault(nulls, []).append(place)
    return places


def _single(row: Row) -> Any:
    """Return a key of one column as its value, which is compared faster."""
    return row.frozen[0] if len(row.frozen) == 1 else row.frozen


def _ranked(row: Row) -> list[tuple[int, Any]]:
    """Return the key with the rank of each value's kind: kinds have no common order."""
    return [_rank(value) for value in row.frozen]


def _rank(value: Hashable) -> tuple[int, Any]:
    for rank, kind in enumerate(_ORDERED):
        if isinstance(value, kind):
            return rank, value
    if isinstance(value, datetime):
        is_aware = value.utcoffset() is not None
        return len(_ORDERED) + is_aware, value
    text = value.isoformat() if isinstance(value, date) else repr(value)
    return len(_ORDERED) + 2, text
