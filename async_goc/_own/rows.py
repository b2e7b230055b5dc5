"""Make detached instances of plain rows, as a SELECT in a session would load them."""

from collections.abc import Sequence
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import itemgetter
from types import NoneType
from typing import Any, Final, Generic, NamedTuple
from uuid import UUID

from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state

from .._databases import Wire
from .._insert import fill_empty
from .._models import T, columns_of, readable
from .statements import Process, result_processors

# What drivers return, and nobody can change in place.
_PLAIN: Final[frozenset[Any]] = frozenset(
    {
        *(NoneType, str, int, bool, float, bytes, Decimal, UUID),
        *(date, datetime, time, timedelta),
    }
)


class Row(NamedTuple):
    """What a statement has returned; only the lane that made it reads it."""

    wire: Wire
    values: Any


class Loader(Generic[T]):
    """Makes the instances of one model."""

    def __init__(self, mapper: Mapper[T], dialect: Dialect) -> None:
        self.mapper = mapper
        self._dialect = dialect
        self._make: Any = mapper.class_manager.new_instance
        loaded = readable(mapper)
        known = {n: c for n, c in columns_of(mapper).items() if n in loaded}
        self.names = tuple(known)
        # The columns that a statement returns, in the order of their names here.
        self.columns: Sequence[Any] = tuple(known.values())
        places = [self.columns.index(column) for column in mapper.primary_key]
        self._key_of: Any = itemgetter(*places)
        self._is_single = len(places) == 1
        # The class that stands in the key of each instance.
        self._family: Any = mapper.identity_key_from_primary_key((0,) * len(places))[0]
        self._processors: dict[Wire, Sequence[tuple[int, Process]]] = {}

    def load(self, row: Row, *, is_created: bool) -> T:
        """Return a new instance, which shares nothing that can change with another."""
        values = self.values(row)
        key = self._key_of(values)
        instance: T = self._make()
        instance_dict(instance).update(zip(self.names, values, strict=True))
        key = (key,) if self._is_single else key
        instance_state(instance).key = (self._family, key, None)
        if is_created:
            fill_empty([instance], self.mapper)
        return instance

    def values(self, row: Row) -> list[Any]:
        """Return the values of the columns, as the types make them of the driver's."""
        values = list(row.values)
        if not _PLAIN.issuperset(map(type, values)):
            values = [v if type(v) in _PLAIN else deepcopy(v) for v in values]
        for place, process in self._processors_of(row.wire):
            values[place] = process(values[place])
        return values

    def values_at(
        self, places: Sequence[int], rows: Sequence[Row]
    ) -> list[tuple[Any, ...]]:
        """Return the values of these columns, for rows of one statement."""
        if rows and self._processors_of(rows[0].wire):
            rows = [Row(row.wire, self.values(row)) for row in rows]
        return [tuple([row.values[place] for place in places]) for row in rows]

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Return the row's primary key."""
        key = self._key_of(self.values(row))
        return (key,) if self._is_single else key

    def _processors_of(self, wire: Wire) -> Sequence[tuple[int, Process]]:
        found = self._processors.get(wire)
        if found is None:
            assert wire.types is not None  # noqa: S101 - a row has come
            found = tuple(result_processors(self.columns, wire.types, self._dialect))
            self._processors[wire] = found
        return found
