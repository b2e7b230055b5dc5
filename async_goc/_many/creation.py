"""Insert the rows that a bulk call lacks, or find out who has done so."""

from collections.abc import Sequence
from dataclasses import replace
from logging import getLogger
from typing import Any, Final, Generic

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call, Outcome, Policy
from .._databases import Failure, is_duplicate_key, is_serialization_failure
from .._insert import complete_created, explain, fill_empty, insert_all, is_watched
from .._lookup import bind
from .._loop import find_or_insert
from .._models import T
from .._new_row import NewRow
from ..exceptions import SnapshotConflictError
from .inserts import insert_many, why_not
from .rows import Row, Shape

_log: Final = getLogger("async_goc")


class Creation(Generic[T]):
    """How one bulk call creates its rows.

    Args:
        session: The session.
        shape: What tells the rows apart.
        policy: How the call behaves.
        call: Where to report what it did.
        options: Loader options.
    """

    def __init__(
        self,
        session: AsyncSession,
        shape: Shape,
        policy: Policy,
        call: Call,
        options: Sequence[ORMOption],
    ) -> None:
        self._session = session
        self._shape = shape
        # Why a statement for many has made no row, only a SAVEPOINT for one can tell.
        self._policy = replace(policy, strategy="savepoint")
        self._call = call
        self._options = options

    async def insert(self, rows: Sequence[Row[T]]) -> list[T]:
        """Insert those that conflict with no other row.

        Returns:
            The instances whose keys the database has changed.

        Raises:
            SnapshotConflictError: A rival's row is beyond this transaction's snapshot.
            sqlalchemy.exc.DBAPIError: The database's error, with a note.
        """
        mapper, values = self._shape.mapper, [row.given for row in rows]
        obstacle = why_not(self._session.sync_session, mapper, values)
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

    async def insert_alone(self, row: Row[T], *, is_locking: bool = False) -> bool:
        """Insert one, by the loop for one row: what is in its way is explained there.

        Returns:
            Whether it has been created; it may have been found.
        """
        session = self._session
        new_row = self._new_row(row, is_locking=is_locking)
        instance, outcome = await find_or_insert(
            session, new_row.lookup, new_row, self._policy, self._call
        )
        row.instance, row.is_created = instance, outcome is Outcome.CREATED
        if row.is_created:
            await self._complete(instance)
        return row.is_created

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
        session = self._session
        is_alone = not is_watched(session.sync_session, self._shape.mapper)
        await complete_created(session, instance, self._options, is_alone=is_alone)
