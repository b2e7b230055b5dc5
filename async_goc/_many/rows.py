"""Tell the rows of a bulk call apart, and put them in one order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import eq, itemgetter
from types import NoneType
from typing import Any, TypeVar

from sqlalchemy.orm import Mapper, QueryableAttribute

from .._lookup import Lookup, plan_for
from .._models import Field, has_joins, identity_of, lookup_fields
from .._turns import PLAIN, Key

Item = TypeVar("Item")
Values = Mapping[str, Any]
Nulls = tuple[bool, ...]
Columns = Sequence[Sequence[Any]]
# Which rows: their indexes in the columns of a ledger. (A range of them has no step.)
Places = Sequence[int]


# There are thousands of rows, and what is done for each of them takes longer than all
# statements of the call. So nothing is made for a row: it is a place in the columns of
# a ledger, the index of the first mapping that has its key.


@dataclass(slots=True, eq=False)
class Ledger:
    """The rows of a call, one for each key, and what has become of them."""

    # The mappings.
    values: Sequence[Values]
    # The values of the key's columns, by column.
    keys: Columns
    # Which of the columns are NULL in every key; None: that differs.
    nulls: Nulls | None
    # The place of each mapping's row.
    asked: Places
    # Each place once, in the order of the keys.
    order: Places
    # What a new row gets.
    new_values: list[Values]
    # The instance, or the primary key where that is the answer. None as long as no row
    # is found or created.
    answers: list[Any]
    # The places of the rows that this call has inserted.
    created: set[int]
    # What the call queues for in this process, if it does.
    queue_keys: dict[int, Key | None]

    def keys_of(self, places: Places) -> Columns:
        """Return the values of the key's columns in these rows."""
        return [picked(column, places) for column in self.keys]

    def by_nulls(self, keys: Columns) -> Mapping[Nulls, Places]:
        """Return the indexes of those of the keys with NULLs in the same columns."""
        if self.nulls is None:
            return by_nulls(keys)
        return {self.nulls: range(len(keys[0]))}

    def found(self, places: Places) -> Places:
        """Return the places of rows that are found or created."""
        answers = self.answers
        return [place for place in places if answers[place] is not None]

    def missing(self, places: Places) -> Places:
        """Return the places of rows that are neither found nor created."""
        answers = self.answers
        return [place for place in places if answers[place] is None]

    def made(self, places: Places) -> Places:
        """Return the places of rows that this call has inserted."""
        return [place for place in places if place in self.created]

    def create(self, places: Places, answers: Sequence[Any]) -> None:
        """Note that this call has inserted the rows."""
        self.assign(places, answers)
        self.created.update(places)

    def assign(self, places: Places, answers: Sequence[Any]) -> None:
        """Give each row its answer."""
        known = self.answers
        for place, answer in zip(places, answers, strict=True):
            known[place] = answer


def ledger_of(rows: Sequence[Values], keys: Columns, ranks: Sequence[Any]) -> Ledger:
    """Return a ledger of the rows that have these keys, to be sorted by their ranks."""
    asked: Places = range(len(rows))
    order = sorted(asked, key=ranks.__getitem__)
    ranked = picked(ranks, order)
    if any(map(eq, ranked, islice(ranked, 1, None))):
        # The first index under a rank stays, and so they come from the end.
        first = dict(zip(reversed(ranks), reversed(asked), strict=True))
        asked = list(map(first.__getitem__, ranks))
        order = [place for place in order if asked[place] == place]
    alike = [*by_nulls(keys)]
    nulls = alike[0] if len(alike) == 1 else None
    answers: list[Any] = [None] * len(rows)
    return Ledger(rows, keys, nulls, asked, order, [*rows], answers, set(), {})


def picked(items: Sequence[Item], places: Places) -> Sequence[Item]:
    """Return the items at these places."""
    if isinstance(places, range):
        return items[places.start : places.stop]
    return list(map(items.__getitem__, places))


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

    def given(self, rows: Sequence[Values]) -> Columns:
        """Return the values of the key's names, by name."""
        return [list(map(itemgetter(name), rows)) for name in self.names]

    def columns(self, given: Columns) -> Columns:
        """Return the values of the key's columns, by column."""
        columns: list[Sequence[Any]] = []
        for field, values in zip(self.fields, given, strict=True):
            if field.parent is None:
                columns.append(values)
                continue
            identities = [None if v is None else identity_of(v) for v in values]
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

    def alike(
        self, rows: Sequence[Values], given: Columns
    ) -> list[tuple[Lookup[Any], Places]]:
        """Return the indexes of rows with NULLs for the same names, and a lookup."""
        groups = by_nulls(given).values()
        return [(self.lookup(rows[indexes[0]]), indexes) for indexes in groups]

    def keys_of(self, instances: Iterable[object]) -> Columns:
        """Return the values of the key's columns in loaded instances."""
        loaded = [vars(instance) for instance in instances]
        return [[values.get(a.key) for values in loaded] for a in self.attributes]


def by_nulls(columns: Columns) -> Mapping[Nulls, Places]:
    """Return the indexes of the keys that have NULLs in the same columns."""
    if not any(NoneType in set(map(type, column)) for column in columns):
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
