"""Tell the rows of a bulk call apart, and put them in one order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import NoneType
from typing import Any

from sqlalchemy.orm import Mapper, QueryableAttribute

from .._lookup import Lookup, plan_for
from .._models import Field, has_joins, identity_of, lookup_fields
from .._turns import PLAIN, Key

Values = Mapping[str, Any]
Nulls = tuple[bool, ...]


@dataclass(slots=True, eq=False)
class Row:
    """One key of the input, and what has become of it."""

    # The first mapping that has the key.
    values: Values
    # The values of the key's columns.
    key: tuple[Any, ...]
    # What a new row gets.
    new_values: Values
    # Or its primary key, where that is the answer. None as long as no row is found or
    # created.
    instance: Any = None
    # Whether this call has inserted it.
    is_created: bool = False
    # What the call queues for in this process, if it does.
    queue_key: Key | None = None


class Shape:
    """The columns that tell a model's rows apart."""

    def __init__(self, mapper: Mapper[Any], names: tuple[str, ...]) -> None:
        self.mapper = mapper
        # The names that the caller knows the key by: columns, and many-to-ones.
        self.names = names
        self.fields: Sequence[Field] = lookup_fields(mapper.class_, names)
        for field in self.fields:
            if not field.is_plain:
                msg = (
                    f"{mapper.class_.__name__}.{field.name} cannot be a key of many "
                    "rows; name columns, or many-to-one relationships"
                )
                raise ValueError(msg)
        # An attribute for each column of the key, foreign keys included. A column that
        # joined tables share is one, so that subclasses have as many as their parents.
        self.attributes: list[QueryableAttribute[Any]] = [
            mapper.get_property_by_column(column).class_attribute
            for field in self.fields
            for column in (field.columns if field.parent else field.columns[:1])
        ]
        # Whether a SELECT of the model may repeat a row.
        self.is_joined: bool = has_joins(mapper)

    def columns(self, rows: Sequence[Values]) -> list[list[Any]]:
        """Return the values of the key's columns, by column."""
        columns: list[list[Any]] = []
        for field in self.fields:
            column = [row[field.name] for row in rows]
            if field.parent is None:
                columns.append(column)
                continue
            identities = [None if v is None else identity_of(v) for v in column]
            columns += [
                [None if i is None else i[position] for i in identities]
                for position in field.key_positions
            ]
        return columns

    def lookup(self, row: Values) -> Lookup[Any]:
        """Return what :func:`get_or_create` would look up for a mapping."""
        values = {name: row[name] for name in self.names}
        plan = plan_for(self.mapper.class_, values)
        return Lookup(plan, values)

    def alike(self, rows: Sequence[Values]) -> list[tuple[Lookup[Any], Sequence[int]]]:
        """Return the places of rows with NULLs for the same names, and a lookup."""
        values = [[row[name] for row in rows] for name in self.names]
        groups = by_nulls(list(zip(*values, strict=True)))
        return [(self.lookup(rows[places[0]]), places) for places in groups.values()]

    def keys_of(self, instances: Iterable[object]) -> list[tuple[Any, ...]]:
        """Return the keys of loaded instances."""
        loaded = [vars(instance) for instance in instances]
        columns = [[values.get(a.key) for values in loaded] for a in self.attributes]
        return list(zip(*columns, strict=True))


def distinct(
    rows: Sequence[Values], keys: Sequence[tuple[Any, ...]], ranks: Sequence[Any]
) -> tuple[list[Row], list[Row]]:
    """Return the row of each mapping, and all rows in the order of their ranks."""
    # The last one under a rank stays, and so they come from the end.
    places = dict(zip(reversed(ranks), range(len(ranks) - 1, -1, -1), strict=True))
    known = {rank: Row(rows[n], keys[n], rows[n]) for rank, n in places.items()}
    return [known[rank] for rank in ranks], [known[rank] for rank in sorted(known)]


def by_nulls(keys: Sequence[Sequence[object]]) -> Mapping[Nulls, Sequence[int]]:
    """Return the places of the keys that have NULLs in the same columns."""
    if keys and NoneType not in set(map(type, chain.from_iterable(keys))):
        return {(False,) * len(keys[0]): range(len(keys))}
    places: dict[Nulls, list[int]] = {}
    for place, key in enumerate(keys):
        nulls = tuple([value is None for value in key])
        places.setdefault(nulls, []).append(place)
    return places


def are_mixed_up(
    sent: Sequence[tuple[Any, ...]], returned: Sequence[tuple[Any, ...]]
) -> bool:
    """Whether the rows have come back in another order than they were sent in."""
    # This was never seen. But no database promises an order, and without it one row
    # would be taken for another. (A key that is stored as another value, or that a
    # trigger has changed, says nothing about the order.)
    return sent != returned and _are_plain(sent) and set(sent) == set(returned)


def _are_plain(keys: Iterable[tuple[Any, ...]]) -> bool:
    """Whether Python takes only those keys for equal that every database does."""
    return PLAIN.issuperset(map(type, chain.from_iterable(keys)))
