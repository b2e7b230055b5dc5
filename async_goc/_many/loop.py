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
from .ledger import picked
from .look import is_stale, lock_and_refresh, look, look_for_rivals
from .rows import Places, Values

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
        self._ledger = wanted.ledger
        self._shape = wanted.shape
        self._session = wanted.call.session
        self._stack = stack
        # Entered before the guard: its keys are released after the rollback, since what
        # waits for one of them would otherwise meet the rows in the database.
        self._turn = stack.enter_context(Turn(wanted.call))
        self._is_guarded = False
        # Whether a rival has made a row that was missing at first.
        self.has_lost = False

    async def find_or_create(self, places: Places) -> None:
        """Give each row what it is answered by."""
        missing = await Uncollected(self._find(places))
        # The values first: they may be slow, and the guard takes SQLite's write lock.
        await self._evaluate(missing)
        if missing:
            await Uncollected(self._create(missing))

    async def _find(self, places: Places) -> Places:
        """Give each row its answer, or queue for it; return what is missing."""
        missing = await self._look_first(places)
        if missing:
            self._assign_queue_keys(missing)
        while again := set(await self._turn.queue(self._ledger.queued(missing))):
            keys = self._ledger.queue_keys
            released = [place for place in missing if keys[place] in again]
            missing = await self._look_again(missing, released)
        return missing

    async def _create(self, missing: Places) -> None:
        """Insert rows, or find those of rivals."""
        turn, ledger = self._turn, self._ledger
        if await self._guard() | await self._lock(missing):
            missing = await self._look_again(missing, missing)
        if not missing:
            return
        await self._insert(missing)
        made = ledger.made(missing)
        turn.created(ledger.queued(made))
        if made is missing:
            return
        lost = [place for place in missing if place not in ledger.created]
        turn.lost(ledger.queued(ledger.found(lost)))
        for place in ledger.missing(lost):
            await insert_alone(self._input, place)
        self.has_lost = self.has_lost or not ledger.created.issuperset(lost)

    async def update(self, places: Places, names: frozenset[str]) -> None:
        """Lock and refresh the rows, and give them the values of these names."""
        self._input.call.use_writer(self._shape.mapper)
        await self._guard()
        ledger = self._ledger
        await self._look(places, _lock_and_refresh)
        deleted = ledger.missing(places)
        await self._evaluate(deleted)
        for place in deleted:
            await insert_alone(self._input, place, is_locking=True)
        given = ((place, ledger.values[place]) for place in places)
        changes = [
            (ledger.answers[place], {n: values[n] for n in names & values.keys()})
            for place, values in given
            if place not in ledger.created
        ]
        lookup = self._input.lookup
        try:
            await self._session.run_sync(_change, lookup, changes)
        except DBAPIError as error:
            explain(lookup, error, "updating", undone="this call")
            raise
        stale = [place for place in places if is_stale(ledger.answers[place])]
        if stale:
            await self._look(stale)

    async def _insert(self, missing: Places) -> None:
        """Insert the rows, or find those of rivals; leave what neither does."""
        ledger, mark = self._ledger, self._input.answers.mark
        left, is_going_on = missing, True
        # A flush inserts all rows or none, so it is tried again without those that have
        # a rival's row by now.
        while left and is_going_on:
            others = dict(await insert(self._input, left))
            await self._complete(ledger.made(left))
            rest = ledger.missing(left)
            if rest:
                await self._look(rest, look_for_rivals)
            for place in rest:
                if others.pop(mark(ledger.answers[place]), None) is not None:
                    ledger.created.add(place)
            if others:
                # Inserting the rest again could insert some of them twice.
                name = self._shape.mapper.class_.__name__
                msg = (
                    f"some of the {name} were inserted with other keys than they were "
                    "given, as by a trigger, and some were skipped, so that they "
                    "cannot be told apart; get or create them one by one"
                )
                raise AsyncGocError(msg)
            unknown = ledger.missing(rest)
            is_going_on = len(unknown) < len(left)
            left = unknown

    async def _complete(self, places: Places) -> None:
        """Load what the INSERT has not loaded, and nothing else."""
        if not places or not self._input.answers.are_loaded:
            return
        mapper, options = self._shape.mapper, self._input.options
        answers = self._ledger.answers
        made = picked(answers, places)
        # One statement for all rows returns every column, and a flush may not.
        is_read = readable(mapper) <= columns_of(mapper).keys() and (
            self._input.call.strategy == "native" or not any(map(is_stale, made))
        )
        if is_read and not options:
            return
        for place in places:
            answers[place] = None
        await self._look(places)
        for place, instance in zip(places, made, strict=True):
            if answers[place] is instance:
                continue
            # A trigger has changed its key.
            answers[place] = instance
            unread = [n for n in sorted(readable(mapper)) if n not in vars(instance)]
            if unread:
                await self._session.refresh(instance, unread)
            await complete_created(self._session, instance, options, is_alone=False)

    async def _look(self, places: Places, how: Callable[..., None] = look) -> None:
        await self._session.run_sync(how, self._input, places)

    async def _look_first(self, places: Places) -> Places:
        """Look for rows; return what is missing, also where they are written."""
        await self._look(places)
        missing = self._ledger.missing(places)
        if missing and self._input.call.use_writer(self._shape.mapper):
            # The first look went to a replica, which lags.
            await self._look(missing)
            missing = self._ledger.missing(missing)
        return missing

    async def _look_again(self, missing: Places, places: Places) -> Places:
        """Look for rows again; return what of *missing* is missing still."""
        await self._look(places)
        found = self._ledger.found(missing)
        self._turn.found(self._ledger.queued(found))
        self.has_lost = self.has_lost or bool(found)
        return self._ledger.missing(missing)

    def _assign_queue_keys(self, places: Places) -> None:
        for lookup, alike in self._input.alike(places):
            warn_if_not_covered(self._input.call, lookup)
            keys = self._turn.keys_of(lookup, picked(self._ledger.values, alike))
            self._ledger.queue_keys.update(zip(alike, keys, strict=True))

    async def _lock(self, places: Places) -> bool:
        """Lock the keys in the database, if the policy says so."""
        if not self._input.call.policy.advisory_lock:
            return False
        alike = self._input.alike(places)
        alike[0][0].lock_timeout = self._input.lookup.lock_timeout
        values = self._ledger.values
        groups = [(lookup, picked(values, places)) for lookup, places in alike]
        await self._turn.lock(*groups)
        return True

    async def _evaluate(self, places: Places) -> None:
        """Work out what new rows get; functions are called for each."""
        if not places:
            return
        defaults = self._input.defaults
        is_lazy = defaults.is_lazy
        same = {} if is_lazy else await defaults.values()
        for place in places if is_lazy or same else ():
            values = await defaults.afresh() if is_lazy else same
            self._ledger.new_values[place] = {**values, **self._ledger.values[place]}

    async def _guard(self) -> bool:
        """Guard all that follows; say whether what was found is out of date."""
        mapper = self._shape.mapper
        has_settled = await settle(self._session, mapper)
        if not self._is_guarded:
            await self._stack.enter_async_context(Guard(self._input.call, mapper))
            self._is_guarded = True
        return has_settled


def _lock_and_refresh(session: Session, wanted: Input, places: Places) -> None:
    with limiting_waits(wanted.lookup, session):
        lock_and_refresh(session, wanted, places)


def _change(
    session: Session, lookup: Lookup[Any], changes: Sequence[tuple[object, Values]]
) -> None:
    for instance, values in changes:
        for name, value in values.items():
            setattr(instance, name, value)
    with limiting_waits(lookup, session):
        session.flush()
