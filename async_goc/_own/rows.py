"""Make detached instances of plain rows, as a SELECT in a session would load them."""

from collections.abc import Sequence
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import itemgetter
from types import NoneType
from typing import Any, Final, Generic, TypeAlias
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


# What a statement has returned, and which one: that tells how to read it. (A number may
# come after the columns.) It is a plain tuple, because a batch makes many.
Row: TypeAlias = tuple[Wire, Any]


class Loader(Generic[T]):
    """Makes the instances of one model."""

    def __init__(self, mapper: Mapper[T], dialect: Dialect) -> None:
        self.mapper = mapper
        self._dialect = dialect
        self._make: Any = mapper.class_manager.new_instance
        loaded = readable(mapper)
        known = {n: c for n, c in columns_of(mapper).items() if n in loaded}
        self.names = tuple(known)
        self._named = tuple(enumerate(known))
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
        loaded = instance_dict(instance)
        for place, name in self._named:
            loaded[name] = values[place]
        key = (key,) if self._is_single else key
        instance_state(instance).key = (self._family, key, None)
        if is_created and self.mapper.relationships:
            fill_empty([instance], self.mapper)
        return instance

    def values(self, row: Row) -> list[Any]:
        """Return the values of the columns, as the types make them of the driver's."""
        wire, found = row
        values = list(found)
        if not _PLAIN.issuperset(map(type, values)):
            values = [v if type(v) in _PLAIN else deepcopy(v) for v in values]
        for place, process in self._processors_of(wire):
            values[place] = process(values[place])
        return values

    def columns_at(self, places: Sequence[int], rows: Sequence[Row]) -> list[list[Any]]:
        """Return these columns' values, for rows of one statement."""
        found = [values for _, values in rows]
        if rows and self._processors_of(rows[0][0]):
            found = [*map(self.values, rows)]
        return [[values[place] for values in found] for place in places]

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
