"""Say what the rows of a bulk call are answered by: their instances, or their keys."""

from collections.abc import Hashable, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Result, select
from sqlalchemy.orm import Mapper

from .._call import Call
from .._insert import fill_empty, insert_many
from .._lookup import Lookup, add_lock
from .._models import columns_of, identity_of
from .rows import Columns, Shape, Values

# A bulk call finds and inserts rows in the same way whatever it returns. Two small
# classes know the difference, and a call has one of the two. An instance is loaded by
# the SELECT, or by the INSERT, and may need more to be complete. A primary key is read
# as a plain value, so that the session hears nothing of the row.

Lock = dict[str, Any] | None
# Answers, and of each the number that the SELECT has given to its key.
Numbered = tuple[Sequence[Any], Sequence[int]]


class Instances:
    """Rows are answered by the session's instances."""

    # Whether an answer has to be readable without another ``await``.
    are_loaded = True

    def select(self, mapper: Mapper[Any], lock: Lock) -> Any:
        """Return what a SELECT of the rows begins with."""
        found = select(mapper.class_)
        return found if lock is None else add_lock(found, mapper, lock)

    def read(self, result: Result[Any]) -> Numbered:
        """Return what the SELECT has found."""
        found: Sequence[Any] = tuple(zip(*result, strict=True)) or ((), ())
        return found[0], found[1]

    async def insert(
        self, call: Call, lookup: Lookup[Any], shape: Shape, values: Sequence[Values]
    ) -> tuple[Sequence[Any], Columns]:
        """Insert the rows that conflict with no other; return answers, and keys."""
        made = await insert_many(call, lookup, values, shape.names)
        fill_empty(made, shape.mapper)
        return made, shape.keys_of(made)

    def of(self, instance: Any) -> Any:
        """Return the answer of a row that the unit of work has made, or found."""
        return instance

    def mark(self, answer: Any) -> Hashable:
        """Return what is the same for two answers only if they are of one row."""
        return id(answer)


class Identities:
    """Rows are answered by their primary keys, and nothing is loaded."""

    are_loaded = False

    def select(self, mapper: Mapper[Any], lock: Lock) -> Any:
        key = [mapper.get_property_by_column(c) for c in mapper.primary_key]
        found: Any = select(*(prop.class_attribute for prop in key))
        return found if lock is None else found.with_for_update(**lock)

    def read(self, result: Result[Any]) -> Numbered:
        *key, numbers = tuple(zip(*result, strict=True)) or ((), ())
        return _joined(key), numbers

    async def insert(
        self, call: Call, lookup: Lookup[Any], shape: Shape, values: Sequence[Values]
    ) -> tuple[Sequence[Any], Columns]:
        mapper, columns = shape.mapper, columns_of(shape.mapper)
        width = len(mapper.primary_key)
        keys = [columns[attribute.key] for attribute in shape.attributes]
        returned: tuple[Any, ...] = (*mapper.primary_key, *keys)
        made = await insert_many(call, lookup, values, shape.names, returned)
        by_column = [*map(list, zip(*made, strict=True))]
        return _joined(by_column[:width]), by_column[width:]

    def of(self, instance: Any) -> Any:
        key: Sequence[Any] = identity_of(instance)
        return key[0] if len(key) == 1 else tuple(key)

    def mark(self, answer: Any) -> Hashable:
        identity: Hashable = answer
        return identity


def _joined(key: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Return primary keys of their columns: plain values, or tuples of several."""
    return key[0] if len(key) == 1 else [*zip(*key, strict=True)]


Answers: TypeAlias = Instances | Identities
INSTANCES: Final = Instances()
IDENTITIES: Final = Identities()
