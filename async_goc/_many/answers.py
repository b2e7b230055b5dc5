"""Say what the rows of a bulk call are answered by: their instances, or their keys."""

from collections.abc import Hashable, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Result, select
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper

from .._call import Call
from .._databases import facts_of
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

    def gather(self, found: Any, _mapper: Mapper[Any], _number: Any, _: Dialect) -> Any:
        """Return a SELECT of the same in arrays, if there can be one."""
        return found

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
        found: Any = select(*_key_of(mapper))
        return found if lock is None else found.with_for_update(**lock)

    def gather(
        self, found: Any, mapper: Mapper[Any], number: Any, dialect: Dialect
    ) -> Any:
        gather = facts_of(dialect).gather
        arrays = gather and gather([*_key_of(mapper), number], dialect)
        return found.with_only_columns(*arrays) if arrays else found

    def read(self, result: Result[Any]) -> Numbered:
        columns: Sequence[Any] = tuple(zip(*result, strict=True)) or ((), ())
        *key, numbers = columns
        if numbers and not isinstance(numbers[0], int):
            # It is one row of arrays, or of NULLs, where they would be empty.
            *key, numbers = [column[0] or () for column in columns]
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


def _key_of(mapper: Mapper[Any]) -> list[Any]:
    properties = map(mapper.get_property_by_column, mapper.primary_key)
    # Those of the class itself select its own rows, where it shares a table.
    return [getattr(mapper.class_, each.key) for each in properties]


def _joined(key: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """Return primary keys of their columns: plain values, or tuples of several."""
    return key[0] if len(key) == 1 else [*zip(*key, strict=True)]


Answers: TypeAlias = Instances | Identities
INSTANCES: Final = Instances()
IDENTITIES: Final = Identities()
