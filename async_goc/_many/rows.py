"""Tell the rows of a bulk call apart."""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any

from sqlalchemy.orm import Mapper, QueryableAttribute

from .._databases import Column, types_of
from .._lookup import Lookup, plan_for
from .._models import Field, has_joins, identity_of, lookup_fields
from .._turns import PLAIN

Values = Mapping[str, Any]
Nulls = tuple[bool, ...]
Columns = Sequence[Sequence[Any]]
# Which rows: their indexes in the columns of a ledger. (A range of them has no step.)
Places = Sequence[int]


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

    def given(self, rows: Sequence[Values]) -> Sequence[Column]:
        """Return the values of the key's names, by name."""
        return [Column(map(itemgetter(name), rows)) for name in self.names]

    def columns(self, given: Sequence[Column]) -> Sequence[Column]:
        """Return the values of the key's columns, by column."""
        columns: list[Column] = []
        for field, values in zip(self.fields, given, strict=True):
            if field.parent is None:
                columns.append(values)
                continue
            identities = [None if v is None else identity_of(v) for v in values]
            columns += [
                Column(None if i is None else i[position] for i in identities)
                for position in field.key_positions
            ]
        return columns

    def lookup(self, row: Values) -> Lookup[Any]:
        """Return what :func:`get_or_create` would look up for a mapping."""
        values = {name: row[name] for name in self.names}
        plan = plan_for(self.mapper.class_, values)
        return Lookup(plan, values)

    def alike(
        self, rows: Sequence[Values], given: Columns
    ) -> list[tuple[Lookup[Any], Places]]:
        """Return the indexes of rows with NULLs for the same names, and a lookup."""
        groups = by_nulls(given).values()
        return [(self.lookup(rows[indexes[0]]), indexes) for indexes in groups]

    def keys_of(self, instances: Sequence[object]) -> Columns:
        """Return the values of the key's columns in loaded instances."""
        names = [attribute.key for attribute in self.attributes]
        return [[vars(each).get(name) for each in instances] for name in names]


def by_nulls(columns: Columns) -> Mapping[Nulls, Places]:
    """Return the indexes of the keys that have NULLs in the same columns."""
    if not any(NoneType in types_of(column) for column in columns):
        return {(False,) * len(columns): range(len(columns[0]))}
    indexes: dict[Nulls, list[int]] = {}
    for index, key in enumerate(zip(*columns, strict=True)):
        nulls = tuple([value is None for value in key])
        indexes.setdefault(nulls, []).append(index)
    return indexes


def are_mixed_up(sent: Columns, returned: Columns) -> bool:
    """Whether rows have come back in another order than their keys were sent in."""
    # This was never seen. But no database promises an order, and without it one row
    # would be taken for another. (A key that is stored as another value, or that a
    # trigger has changed, says nothing about the order.)
    return (
        sent != returned
        # Python takes only those for equal that every database does.
        and PLAIN.issuperset(map(type, chain.from_iterable(sent)))
        and {*zip(*sent, strict=True)} == {*zip(*returned, strict=True)}
    )
