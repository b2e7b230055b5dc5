"""The loop for many rows: look, queue, look again, insert, and look once more."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .._databases import settle
from .._insert import Guard, complete_created, explain
from .._lookup import Lookup, Uncollected, limiting_waits, warn_if_not_covered
from .._models import columns_of, readable
from .._turns import Turn
from ..exceptions import AsyncGocError
from .input import Input
from .insert import insert, insert_alone
from .look import is_stale, lock_and_refresh, look, look_for_rivals
from .rows import Row, Values

# A bulk call does for each chunk what the loop for one row does for a row, and three
# things differ.
#
# All chunks are found or created before the first row is locked for its update. An
# INSERT made while holding row locks can wait for a rival that waits for one of them.
#
# One SAVEPOINT is around all that is inserted and changed, so that the call is all or
# nothing. It is opened as late as possible: what comes before it may be slow, and on
# SQLite the file's write lock is taken just before it.
#
# A statement for many rows skips what conflicts, and does not say with what. So its
# rivals are looked for, and what is not found then is inserted alone.


class Bulk:
    """One bulk call under way; *stack* undoes all of it if the call fails."""

    def __init__(self, wanted: Input, stack: AsyncExitStack) -> None:
        self._input = wanted
        self._shape = wanted.shape
        self._session = wanted.call.session
        self._stack = stack
        # Entered before the guard: its keys are released after the rollback, since what
        # waits for one of them would otherwise meet the rows in the database.
        self._turn = stack.enter_context(Turn(wanted.call))
        self._is_guarded = False
        # Whether a rival has made a row that was missing at first.
        self.has_lost = False

    async def find_or_create(self, rows: Sequence[Row]) -> None:
        """Give each row what it is answered by."""
        missing = await Uncollected(self._find(rows))
        # The values first: they may be slow, and the guard takes SQLite's write lock.
        await self._evaluate(missing)
        if missing:
            await Uncollected(self._create(missing))

    async def _find(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Give each row its answer, or queue for it; return what is missing."""
        missing = await self._look_first(rows)
        if missing:
            self._assign_queue_keys(missing)
        keys = [row.queue_key for row in missing]
        while again := set(await self._turn.queue(keys)):
            released = [row for row in missing if row.queue_key in again]
            missing = await self._look_again(missing, released)
            keys = [row.queue_key for row in missing]
        return missing

    async def _create(self, missing: Sequence[Row]) -> None:
        """Insert rows, or find those of rivals."""
        turn = self._turn
        if await self._guard() | await self._lock(missing):
            missing = await self._look_again(missing, missing)
        if not missing:
            return
        await self._insert(missing)
        turn.created([row.queue_key for row in missing if row.is_created])
        lost = [row for row in missing if not row.is_created]
        turn.lost([row.queue_key for row in lost if row.instance is not None])
        for row in lost:
            if row.instance is None:
                await insert_alone(self._input, row)
            self.has_lost = self.has_lost or not row.is_created

    async def update(self, rows: Sequence[Row], names: frozenset[str]) -> None:
        """Lock and refresh the rows, and give them the values of these names."""
        self._input.call.use_writer(self._shape.mapper)
        await self._guard()
        await self._look(rows, _lock_and_refresh)
        deleted = [row for row in rows if row.instance is None]
        await self._evaluate(deleted)
        for row in deleted:
            await insert_alone(self._input, row, is_locking=True)
        changes = [
            (row.instance, {n: row.values[n] for n in names & row.values.keys()})
            for row in rows
            if not row.is_created
        ]
        lookup = self._input.lookup
        try:
            await self._session.run_sync(_change, lookup, changes)
        except DBAPIError as error:
            explain(lookup, error, "updating", undone="this call")
            raise
        stale = [row for row in rows if is_stale(row.instance)]
        if stale:
            await self._look(stale)

    async def _insert(self, missing: Sequence[Row]) -> None:
        """Insert the rows, or find those of rivals; leave what neither does."""
        left, is_going_on = list(missing), True
        # A flush inserts all rows or none, so it is tried again without those that have
        # a rival's row by now.
        while left and is_going_on:
            others = dict(await insert(self._input, left))
            await self._complete([row for row in left if row.is_created])
            rest: list[Row] = [row for row in left if row.instance is None]
            if rest:
                await self._look(rest, look_for_rivals)
            for row in rest:
                mark = self._input.answers.mark(row.instance)
                row.is_created = others.pop(mark, None) is not None
            if others:
                # Inserting the rest again could insert some of them twice.
                name = self._shape.mapper.class_.__name__
                msg = (
                    f"some of the {name} were inserted with other keys than they were "
                    "given, as by a trigger, and some were skipped, so that they "
                    "cannot be told apart; get or create them one by one"
                )
                raise AsyncGocError(msg)
            unknown: list[Row] = [row for row in rest if row.instance is None]
            is_going_on = len(unknown) < len(left)
            left = unknown

    async def _complete(self, rows: Sequence[Row]) -> None:
        """Load what the INSERT has not loaded, and nothing else."""
        if not self._input.answers.are_loaded:
            return
        mapper, options = self._shape.mapper, self._input.options
        made: list[Any] = [row.instance for row in rows]
        # One statement for all rows returns every column, and a flush may not.
        is_read = readable(mapper) <= columns_of(mapper).keys() and (
            self._input.call.strategy == "native" or not any(map(is_stale, made))
        )
        if not rows or (is_read and not options):
            return
        for row in rows:
            row.instance = None
        await self._look(rows)
        for row, instance in zip(rows, made, strict=True):
            if row.instance is instance:
                continue
            # A trigger has changed its key.
            row.instance = instance
            unread = [n for n in sorted(readable(mapper)) if n not in vars(instance)]
            if unread:
                await self._session.refresh(instance, unread)
            await complete_created(self._session, instance, options, is_alone=False)

    async def _look(self, rows: Sequence[Row], how: Callable[..., None] = look) -> None:
        await self._session.run_sync(how, self._input, rows)

    async def _look_first(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Look for *rows*; return what is missing, also where they are written."""
        await self._look(rows)
        missing = [row for row in rows if row.instance is None]
        if missing and self._input.call.use_writer(self._shape.mapper):
            # The first look went to a replica, which lags.
            await self._look(missing)
        return [row for row in missing if row.instance is None]

    async def _look_again(
        self, missing: Sequence[Row], rows: Sequence[Row]
    ) -> list[Row]:
        """Look for *rows*; return what of *missing* is missing still."""
        await self._look(rows)
        found = [row.queue_key for row in missing if row.instance is not None]
        self._turn.found(found)
        self.has_lost = self.has_lost or bool(found)
        return [row for row in missing if row.instance is None]

    def _assign_queue_keys(self, rows: Sequence[Row]) -> None:
        values = [row.values for row in rows]
        for lookup, places in self._shape.alike(values):
            warn_if_not_covered(self._input.call, lookup)
            keys = self._turn.keys_of(lookup, [values[place] for place in places])
            for place, key in zip(places, keys, strict=True):
                rows[place].queue_key = key

    async def _lock(self, rows: Sequence[Row]) -> bool:
        """Lock the keys in the database, if the policy says so."""
        if not self._input.call.policy.advisory_lock:
            return False
        values = [row.values for row in rows]
        alike = self._shape.alike(values)
        alike[0][0].lock_timeout = self._input.lookup.lock_timeout
        groups = [(lookup, [values[p] for p in places]) for lookup, places in alike]
        await self._turn.lock(*groups)
        return True

    async def _evaluate(self, rows: Sequence[Row]) -> None:
        """Work out what new rows get; functions are called for each."""
        if not rows:
            return
        defaults = self._input.defaults
        is_lazy = defaults.is_lazy
        same = {} if is_lazy else await defaults.values()
        for row in rows if is_lazy or same else ():
            values = await defaults.afresh() if is_lazy else same
            row.new_values = {**values, **row.values}

    async def _guard(self) -> bool:
        """Guard all that follows; say whether what was found is out of date."""
        mapper = self._shape.mapper
        has_settled = await settle(self._session, mapper)
        if not self._is_guarded:
            await self._stack.enter_async_context(Guard(self._input.call, mapper))
            self._is_guarded = True
        return has_settled


def _lock_and_refresh(session: Session, wanted: Input, rows: Sequence[Row]) -> None:
    with limiting_waits(wanted.lookup, session):
        lock_and_refresh(session, wanted, rows)


def _change(
    session: Session, lookup: Lookup[Any], changes: Sequence[tuple[object, Values]]
) -> None:
    for instance, values in changes:
        for name, value in values.items():
            setattr(instance, name, value)
    with limiting_waits(lookup, session):
        session.flush()
