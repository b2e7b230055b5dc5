"""Bind one call's values to a plan, and look for the row."""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic

from sqlalchemy import ColumnElement, Result, Select, inspect
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.selectable import ForUpdateParameter
from sqlalchemy.util import greenlet_spawn

from .._databases import facts_of
from .._models import T, conjuncts, differs, equality, identity_of, is_generated
from ..exceptions import ContradictionError
from .arguments import add_lock, check_lookup, check_options, parents_of
from .plan import (
    Plan,
    nulls_of,
    pins_of,
    plain_conditions,
    plan_for,
    stored_criteria,
)
from .refresh import noting_loaded, refresh_columns
from .rivals import limiting_lock, read_rivals

# Not to be compared with, because an array may be given by mistake.
NO_OPTIONS: Final = ()


class Lookup(Generic[T]):
    """A plan with the values of one call."""

    # What most lookups do not have is the class's, which takes no time.
    #
    # The conditions beyond the plan's: first one for each of its `expressions`, then
    # the caller's.
    criteria: tuple[ColumnElement[bool], ...] = ()
    # The instances among the values.
    parents: tuple[Any, ...] = ()
    options: tuple[ORMOption, ...] = ()
    # How to lock the row, if it is to be locked; it is then refreshed, too.
    lock: ForUpdateParameter = None
    # Seconds that a statement may wait for another transaction, if that is limited.
    lock_timeout: float | None = None

    def __init__(
        self,
        plan: Plan[T],
        values: Mapping[str, Any],
        lock_timeout: float | None = None,
    ) -> None:
        self.plan: Plan[T] = plan
        # The values looked up, by attribute name.
        self.values: Mapping[str, Any] = values
        # The plan's statement with the criteria, and the options.
        self.statement: Select[Any] = plan.statement
        if lock_timeout is not None:
            self.lock_timeout = lock_timeout

    @property
    def must_flush(self) -> bool:
        """Whether the statement needs the pending changes written, come what may."""
        # A pending parent has no key yet; and to refresh the row would lose changes.
        if not self.parents:
            return self.lock is not None
        return self.lock is not None or any(inspect(p).pending for p in self.parents)

    @property
    def names(self) -> tuple[str, ...]:
        """What is looked up, in words, for messages."""
        return (*self.values, *map(str, self._positional))

    @property
    def nulls(self) -> frozenset[str]:
        """The columns that a new row must be given NULL for: None would not do."""
        if not self.criteria:
            return self.plan.nulls
        return nulls_of(self.plan.mapper, self.conditions())

    @property
    def _positional(self) -> tuple[ColumnElement[bool], ...]:
        """The caller's criteria."""
        return self.criteria[len(self.plan.expressions) :]

    def look(self, session: AsyncSession) -> Awaitable[T | None]:
        """Return the matching row, if there is one; refresh it if it is locked."""
        # What session.run_sync() does, but for its own frame.
        if self.lock is not None:
            return greenlet_spawn(self._look_and_lock, session.sync_session)
        return greenlet_spawn(self._look, session.sync_session)

    def look_for_rival(self, session: AsyncSession) -> Awaitable[T | None]:
        """Return the row that was in the way of an INSERT, read anew."""
        return session.run_sync(self._look_for_rival)

    def _look_and_lock(self, session: Session) -> T | None:
        mapper = self.plan.mapper
        if facts_of(session.get_bind(mapper).dialect).has_locking_reads:
            # To lock what is not there would lock the gap, and deadlock INSERTs.
            key = mapper.get_property_by_column(mapper.primary_key[0])
            # That of the class itself, whose table may have rows of other classes.
            column = getattr(mapper.class_, key.key)
            by_key: Any = self.statement.with_only_columns(column)
            if self._execute(session, by_key).first() is None:
                return None
        with limiting_lock(self, session, self.lock):
            return self._look_and_refresh(session, self.lock)

    def _look_for_rival(self, session: Session) -> T | None:
        return read_rivals(self, session, partial(self._look_and_refresh, session))

    def _look_and_refresh(self, session: Session, lock: ForUpdateParameter) -> T | None:
        with noting_loaded(session) as is_fresh:
            found = self._look(session, lock)
        if found is None or is_fresh(found):
            return found
        has_row = refresh_columns(session, found, lock)
        return found if has_row else None

    def _execute(self, session: Session, statement: Select[Any]) -> Result[Any]:
        if (self.parents or self.lock is not None) and self.must_flush:
            session.flush()
        params = {
            parameter: self.values[name]
            if position is None
            else identity_of(self.values[name])[position]
            for parameter, name, position in self.plan.binds
        }
        return session.execute(statement, params)

    def _look(self, session: Session, lock: ForUpdateParameter = None) -> T | None:
        statement = self.statement
        if lock is not None:
            statement = add_lock(statement, self.plan.mapper, lock)
        result = self._execute(session, statement)
        # Options may ask for joins as well, and listeners may add options.
        if self.plan.is_joined or self.options or session.dispatch.do_orm_execute:
            result = result.unique()
        return only_one(result, self.plan.model, self.names)

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return all that the lookup asks for, as conjuncts with their values."""
        plan = self.plan
        plain = [
            condition
            for field in plan.fields
            if field not in plan.expressions
            for condition in plain_conditions(
                plan.mapper, field, self.values[field.name]
            )
        ]
        return [*plain, *conjuncts(*self.criteria)]

    def fed_values(self, *, is_flushed: bool) -> dict[str, Any]:
        """Return what a new row gets from the lookup, unless that is contradictory."""
        plan = self.plan
        # In the caller's order, in which an error tells what comes second.
        fed = {**self.values}
        for field in plan.fields:
            if not field.is_settable:
                del fed[field.name]
        if not self.criteria and not plan.has_overlap:
            return fed
        for found in filter(None, map(equality, conjuncts(*self._positional))):
            # A comparison with a pending parent has no value before the flush.
            has_value = found.is_ready or is_flushed
            is_own = plan.mapper.columns.contains_column(found.left)
            if has_value and is_own and not is_generated(found.left):
                name = plan.mapper.get_property_by_column(found.left).key
                value = found.value
                if name in fed and differs(fed[name], value, found.left):
                    raise ContradictionError(plan.model, name, fed[name], value)
                fed[name] = value
        # Two names may stand for one column: a relationship and its foreign key, say.
        pins: dict[Any, Any] = {}
        for name, value in fed.items():
            for column, pin in pins_of(plan.mapper, name, value).items():
                if column in pins and differs(pins[column], pin, column):
                    raise ContradictionError(plan.model, name, pins[column], pin)
                pins[column] = pin
        return fed


def only_one(result: Result[Any], model: type[T], names: Iterable[str]) -> T | None:
    try:
        found: T | None = result.scalar_one_or_none()
    except MultipleResultsFound as error:
        error.add_note(
            f"several {model.__name__} match the lookup by {', '.join(names)}; remove "
            "the duplicates and add a unique constraint, or look up by more"
        )
        raise
    return found


def bind(
    session: AsyncSession,
    model: type[T],
    criteria: Sequence[Any],
    values: Mapping[str, Any],
    *,
    options: Sequence[ORMOption] = NO_OPTIONS,
    lock: ForUpdateParameter = None,
    is_updating: bool = False,
    lock_timeout: float | None = None,
) -> Lookup[T]:
    """Check the arguments, and bind them to the plan for their names."""
    if criteria or not values:
        check_lookup(model, criteria, values)
    plan = plan_for(model, values)
    lookup = Lookup(plan, values, lock_timeout)
    if plan.parents:
        lookup.parents = tuple(parents_of(session, plan, values))
    if plan.expressions:
        built = (getattr(model, f.name) == values[f.name] for f in plan.expressions)
        criteria = (*built, *criteria)
    if criteria:
        lookup.criteria = tuple(criteria)
        stored = stored_criteria(plan.mapper, criteria)
        lookup.statement = lookup.statement.where(*stored)
    if options is not NO_OPTIONS:
        lookup.options = check_options(model, options)
        lookup.statement = lookup.statement.options(*lookup.options)
    if is_updating:
        lookup.lock = plan.lock
    elif lock is not None and lock is not False:
        lookup.lock = lock
        add_lock(lookup.statement, plan.mapper, lock)  # It refuses what is no lock.
    # The criteria may contradict each other, or the keywords.
    if criteria or plan.has_overlap:
        lookup.fed_values(is_flushed=False)
    return lookup
