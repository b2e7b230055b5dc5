"""The loop for many rows: look, queue, look again, insert, and look once more."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call
from .._databases import settle
from .._insert import Guard, complete_found, explain
from .._lookup import warn_if_not_covered
from .._models import T, columns_of, readable
from .._turns import Turn
from .input import Input
from .insert import Insertion
from .look import look, look_anew
from .rows import Row


class Bulk(Generic[T]):
    """One bulk call under way; *stack* undoes all of it if the call fails."""

    def __init__(
        self,
        call: Call,
        wanted: Input,
        stack: AsyncExitStack,
        options: Sequence[ORMOption],
    ) -> None:
        self._call = call
        self._shape = wanted.shape
        self._stack = stack
        self._defaults = wanted.defaults
        self._options = options
        self._insertion = Insertion[T](call, wanted.shape, options)
        self._is_guarded = False
        # Whether a rival has made a row that was missing at first.
        self.has_lost = False

    async def find_or_create(self, rows: Sequence[Row[T]]) -> None:
        """Give each row its instance."""
        turn = self._stack.enter_context(Turn(self._call))
        await self._look(rows)
        missing = [row for row in rows if row.instance is None]
        if not missing:
            return
        self._assign_keys(missing, turn)
        while again := set(await turn.queue([row.turn for row in missing])):
            released = [row for row in missing if row.turn in again]
            missing = await self._look_again(missing, released, turn)
        # The values first: they may be slow, and the guard takes SQLite's write lock.
        await self._evaluate(missing)
        if missing and await self._guard():
            missing = await self._look_again(missing, missing, turn)
        if not missing:
            return
        strangers = await self._insertion.insert(missing)
        created = [row for row in missing if row.is_created]
        turn.created([row.turn for row in created])
        mapper = self._shape.mapper
        if self._options or not readable(mapper) <= columns_of(mapper).keys():
            await self._look(created)  # Fills in what is not loaded, and only that.
        left = [row for row in missing if row.instance is None]
        if left:
            await self._find_rivals(left, strangers, turn)

    async def update(self, rows: Sequence[Row[T]], names: frozenset[str]) -> None:
        """Lock the rows, read them anew, and give them the values of these names."""
        await self._guard()
        await self._look(rows, look_anew)
        deleted = [row for row in rows if row.instance is None]
        await self._evaluate(deleted)
        for row in deleted:
            await self._insertion.insert_alone(row, is_locking=True)
        changes = [
            (row.instance, {n: row.values[n] for n in names & row.values.keys()})
            for row in rows
            if not row.is_created
        ]
        try:
            await self._call.session.run_sync(_change, changes)
        except DBAPIError as error:
            lookup = self._shape.lookup(rows[0].values)
            explain(lookup, error, "updating", undone="this call")
            raise
        stale = [row for row in rows if _is_stale(row.instance)]
        if stale:
            await self._look(stale)

    async def _look(
        self, rows: Sequence[Row[T]], how: Callable[..., None] = look
    ) -> None:
        session, mapper = self._call.session, self._shape.mapper
        await session.run_sync(how, self._shape, rows, self._options)
        for row in rows if mapper.polymorphic_on is not None else ():
            if row.instance is not None:
                await complete_found(session, row.instance, mapper)

    async def _look_again(
        self, missing: Sequence[Row[T]], rows: Sequence[Row[T]], turn: Turn
    ) -> list[Row[T]]:
        """Look for *rows*; return what of *missing* is missing still."""
        await self._look(rows)
        found = [row.turn for row in missing if row.instance is not None]
        turn.found(found)
        self.has_lost = self.has_lost or bool(found)
        return [row for row in missing if row.instance is None]

    def _assign_keys(self, rows: Sequence[Row[T]], turn: Turn) -> None:
        """Give each row the key that it queues for, if it has one."""
        values = [row.values for row in rows]
        for lookup, places in self._shape.alike(values):
            warn_if_not_covered(self._call, lookup)
            keys = turn.keys_of(lookup, [values[place] for place in places])
            for place, key in zip(places, keys, strict=True):
                rows[place].turn = key

    async def _evaluate(self, rows: Sequence[Row[T]]) -> None:
        """Work out what new rows get; functions are called for each."""
        if not rows:
            return
        lazy = self._defaults.is_lazy
        same = {} if lazy else await self._defaults.values()
        for row in rows:
            values = await self._defaults.afresh() if lazy else same
            row.given = {**values, **row.values} if values else row.values

    async def _guard(self) -> bool:
        """Guard all that follows; say whether a look is out of date."""
        session, mapper = self._call.session, self._shape.mapper
        has_settled = await settle(session, mapper)
        if not self._is_guarded:
            await self._stack.enter_async_context(Guard(session, mapper))
            self._is_guarded = True
        return has_settled

    async def _find_rivals(
        self, left: Sequence[Row[T]], strangers: Sequence[T], turn: Turn
    ) -> None:
        """Find the rows that the INSERT has skipped; insert one by one what is gone."""
        await self._look(left)
        turn.lost([row.turn for row in left if row.instance is not None])
        for row in left:
            if row.instance is None:
                await self._insertion.insert_alone(row)
            # The database may have changed the key of a row that this call inserted,
            # and know the row by either.
            is_own = any(stranger is row.instance for stranger in strangers)
            row.is_created = row.is_created or is_own
            strangers = [s for s in strangers if s is not row.instance]
            self.has_lost = self.has_lost or not row.is_created


def _change(
    session: Session, changes: Sequence[tuple[object, Mapping[str, Any]]]
) -> None:
    for instance, values in changes:
        for name, value in values.items():
            setattr(instance, name, value)
    session.flush()


def _is_stale(instance: object) -> bool:
    state: Any = inspect(instance)
    return not state.expired_attributes.isdisjoint(readable(state.mapper))
