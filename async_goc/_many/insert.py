"""Insert the rows that a bulk call lacks, all by one statement or one flush."""

from collections.abc import Sequence
from logging import getLogger
from typing import Any, Final, Generic

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call, Outcome
from .._databases import Failure, is_duplicate_key, is_serialization_failure
from .._insert import (
    complete_created,
    explain,
    fill_empty,
    insert_all,
    insert_many,
    is_watched,
    obstacle_to_many,
)
from .._lookup import bind
from .._loop import find_or_insert
from .._models import T
from .._new_row import NewRow
from ..exceptions import SnapshotConflictError
from .rows import Row, Shape

_log: Final = getLogger("async_goc")


class Insertion(Generic[T]):
    """How one bulk call inserts its rows; the policy's strategy does not count."""

    def __init__(self, call: Call, shape: Shape, options: Sequence[ORMOption]) -> None:
        self._call = call
        self._session = call.session
        self._shape = shape
        self._options = options

    async def insert(self, rows: Sequence[Row[T]]) -> list[T]:
        """Insert those that conflict with no other row.

        Return the instances whose keys the database has changed.
        """
        mapper, values = self._shape.mapper, [row.given for row in rows]
        obstacle = obstacle_to_many(self._session.sync_session, mapper, values)
        if any(a.type.should_evaluate_none for a in self._shape.attributes):
            obstacle = "None in the key means NULL, and elsewhere a JSON null"
        self._call.attempts += 1
        self._call.strategy = "native" if obstacle is None else "savepoint"
        try:
            if obstacle is None:
                return await self._insert_natively(rows)
            name = mapper.class_.__name__
            _log.debug("many %s are inserted by the unit of work: %s", name, obstacle)
            await self._insert_by_unit_of_work(rows)
        except DBAPIError as error:
            if is_serialization_failure(error):
                names = (mapper.class_, self._shape.names)
                raise SnapshotConflictError(*names, None) from error
            lookup = self._shape.lookup(rows[0].values)
            explain(lookup, error, "creating", undone="this call")
            raise
        return []

    async def insert_alone(self, row: Row[T], *, is_locking: bool = False) -> None:
        """Find or insert one row by the loop for one, which explains what fails.

        A statement for many that has made no row cannot tell why; a SAVEPOINT can.
        """
        new_row = self._new_row(row, is_locking=is_locking)
        instance, outcome = await find_or_insert(
            self._call, new_row.lookup, new_row, "savepoint"
        )
        row.instance, row.is_created = instance, outcome is Outcome.CREATED
        if row.is_created:
            await self._complete(instance)

    async def _insert_natively(self, rows: Sequence[Row[T]]) -> list[T]:
        mapper, values = self._shape.mapper, [row.given for row in rows]
        made = await self._session.run_sync(insert_many, mapper, values)
        fill_empty(made, mapper)
        by_key = {row.frozen: row for row in rows}
        strangers: list[T] = []
        for instance, key in zip(made, self._shape.keys_of(made), strict=True):
            row = by_key.get(key)
            if row is None:
                strangers.append(instance)
            else:
                row.instance, row.is_created = instance, True
        return strangers

    async def _insert_by_unit_of_work(self, rows: Sequence[Row[T]]) -> None:
        new_rows = [self._new_row(row) for row in rows]
        entries = [(new_row, await new_row.values()) for new_row in new_rows]
        made = await insert_all(self._session, entries)
        if isinstance(made, Failure):
            if made.error is not None and not is_duplicate_key(made.error):
                raise made.error
            return  # One by one, it shows which of them have a rival.
        for row, instance in zip(rows, made, strict=True):
            row.instance, row.is_created = instance, True
            await self._complete(instance)

    def _new_row(self, row: Row[T], *, is_locking: bool = False) -> NewRow[T]:
        model = self._shape.mapper.class_
        lookup = {name: row.values[name] for name in self._shape.names}
        wanted = bind(
            *(self._session, model, (), lookup),
            options=self._options,
            with_for_update={"of": model} if is_locking else None,
        )
        rest = {name: row.given[name] for name in row.given.keys() - lookup.keys()}
        return NewRow(wanted, rest, may_contradict=True)

    async def _complete(self, instance: Any) -> None:
        is_alone = not is_watched(self._session.sync_session, self._shape.mapper)
        await complete_created(
            self._session, instance, self._options, is_alone=is_alone
        )
