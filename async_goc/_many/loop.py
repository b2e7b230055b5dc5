"""The loop, in bulk: look, queue, look again, insert under guard, look once more."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Generic, Self

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call, Policy
from .._databases import settle
from .._insert import complete_found, explain, guard
from .._lookup import warn_if_not_covered
from .._models import T, columns_of, readable
from .._new_row import NewValues
from .creation import Creation
from .look import look, look_anew
from .rows import Row, Shape
from .turns import Turns


class Bulk(Generic[T]):
    """One bulk call under way: a context, which undoes all of it if it fails.

    Args:
        session: The session.
        shape: What tells the rows apart.
        policy: How the call behaves.
        call: Where to report what it did.
        defaults: What fills the names that a new row lacks.
        options: Loader options.

    Attributes:
        has_lost: Whether a rival has made a row that was missing at first.
    """

    def __init__(
        self,
        session: AsyncSession,
        shape: Shape,
        policy: Policy,
        call: Call,
        *,
        defaults: NewValues,
        options: Sequence[ORMOption] = (),
    ) -> None:
        self._session = session
        self._shape = shape
        self._policy = policy
        self._defaults = defaults
        self._options = options
        self._turns = Turns(session, policy, call)
        self._creation = Creation[T](session, shape, policy, call, options)
        self._stack = AsyncExitStack()
        self._is_guarded = False
        self.has_lost = False

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        self._stack.enter_context(self._turns)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    async def find_or_create(self, rows: Sequence[Row[T]]) -> None:
        """Give each row its instance."""
        await self._look(rows)
        missing = [row for row in rows if row.instance is None]
        if not missing:
            return
        for lookup, _ in self._shape.alike([row.values for row in missing]):
            warn_if_not_covered(self._session, lookup, self._policy)
        self._turns.assign(missing, self._shape)
        while again := await self._turns.queue(missing):
            missing = await self._look_again(missing, again)
        await self._evaluate(missing)
        # Not sooner: the values may be slow, and on SQLite this takes the write lock.
        if missing and await self._guard():
            missing = await self._look_again(missing, missing)
        if missing:
            await self._create(missing)

    async def _create(self, rows: Sequence[Row[T]]) -> None:
        strangers = await self._creation.insert(rows)
        created = [row for row in rows if row.is_created]
        self._turns.created(created)
        mapper = self._shape.mapper
        if self._options or not readable(mapper) <= columns_of(mapper).keys():
            await self._look(created)  # Fills in what is not loaded, and only that.
        left = [row for row in rows if row.instance is None]
        if not left:
            return
        still_left = await self._look_again(left, left)
        for row in still_left:
            await self._creation.insert_alone(row)
        for row in left:
            # The database has changed its key, and knows the row by either.
            own = [s for s in strangers if s is row.instance]
            row.is_created = row.is_created or bool(own)
            strangers = [s for s in strangers if s is not row.instance]
            self.has_lost = self.has_lost or not row.is_created

    async def update(self, rows: Sequence[Row[T]], names: frozenset[str]) -> None:
        """Lock the rows, read them anew, and give them the values of these names."""
        await self._guard()
        await self._look(rows, look_anew)
        deleted = [row for row in rows if row.instance is None]
        await self._evaluate(deleted)
        for row in deleted:
            await self._creation.insert_alone(row, is_locking=True)
        changes = [
            (row.instance, {n: row.values[n] for n in names & row.values.keys()})
            for row in rows
            if not row.is_created
        ]
        try:
            await self._session.run_sync(_change, changes)
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
        self._turns.looking()
        await self._session.run_sync(how, self._shape, rows, self._options)
        mapper = self._shape.mapper
        for row in rows if mapper.polymorphic_on is not None else ():
            if row.instance is not None:
                await complete_found(self._session, row.instance, mapper)

    async def _look_again(
        self, missing: Sequence[Row[T]], rows: Sequence[Row[T]]
    ) -> list[Row[T]]:
        """Look for *rows*; return what of *missing* still is."""
        await self._look(rows)
        found = [row for row in missing if row.instance is not None]
        self._turns.found(found)
        self.has_lost = self.has_lost or bool(found)
        return [row for row in missing if row.instance is None]

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
        has_settled = await settle(self._session, self._shape.mapper)
        if not self._is_guarded:
            context = guard(self._session, self._shape.mapper)
            await self._stack.enter_async_context(context)
            self._is_guarded = True
        return has_settled


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
