"""Bind one call's values to a plan, and look for the row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from sqlalchemy import ColumnElement, Result, Select, inspect
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.selectable import ForUpdateParameter

from .._models import SQL, T, conjuncts, differs, equality, identity_of
from ..exceptions import ContradictionError
from .arguments import check_lookup, checked_options, locking, parents_of
from .plan import Plan, pins_of, plain_conditions, plan_for
from .refresh import reread


@dataclass(slots=True, eq=False)  # not frozen: that takes four times as long
class Lookup(Generic[T]):
    """A plan with the values of one call.

    Attributes:
        plan: The plan.
        values: The values looked up, by attribute name.
        criteria: The conditions beyond the plan's.
        statement: The plan's statement with these, the options and the lock.
        parents: The instances among the values.
        options: The loader options.
        lock: How the statement locks the row, if it does; it is then read anew.
    """

    plan: Plan[T]
    values: Mapping[str, Any]
    criteria: tuple[ColumnElement[bool], ...]
    statement: Select[Any]
    parents: tuple[Any, ...]
    options: tuple[ORMOption, ...]
    lock: ForUpdateParameter

    @property
    def must_flush(self) -> bool:
        """Whether the statement needs the pending changes written, come what may."""
        # A pending parent has no key yet; reading the row anew would lose changes.
        if not self.parents:
            return self.lock is not None
        return self.lock is not None or any(inspect(p).pending for p in self.parents)

    @property
    def names(self) -> tuple[str, ...]:
        """What is looked up, in words, for messages."""
        beyond = [str(c) for c in self.criteria[len(self.plan.expressions) :]]
        return (*self.values, *beyond)

    async def look(self, session: AsyncSession, *, is_anew: bool = False) -> T | None:
        """Return the matching row, if there is one.

        Args:
            session: The session.
            is_anew: Whether to read its columns even if the session has loaded them, as
                a locking lookup always does.

        Raises:
            sqlalchemy.exc.MultipleResultsFound: Several rows match.
        """
        if is_anew or self.lock is not None:
            return await session.run_sync(self._look_anew)
        return await session.run_sync(self._look)

    def _look_anew(self, session: Session) -> T | None:
        loaded = session.identity_map.all_states()
        found = self._look(session)
        if found is not None and inspect(found) in loaded:
            reread(session, found, self.lock)
        return found

    def _look(self, session: Session) -> T | None:
        if self.must_flush:
            session.flush()
        params = {
            parameter: self.values[name]
            if position is None
            else identity_of(self.values[name])[position]
            for parameter, name, position in self.plan.binds
        }
        result: Result[Any] = session.execute(self.statement, params)
        # Options may ask for joins as well, and listeners may add options.
        if self.plan.is_joined or self.options or session.dispatch.do_orm_execute:
            result = result.unique()
        try:
            found: T | None = result.scalar_one_or_none()
        except MultipleResultsFound as error:
            error.add_note(
                f"several {self.plan.model.__name__} match the lookup by "
                f"{', '.join(self.names)}; remove the duplicates and add a unique "
                "constraint, or look up by more"
            )
            raise
        return found

    def conditions(self) -> list[ColumnElement[bool]]:
        """All that the lookup asks for, as conjuncts with their values."""
        plain = [
            condition
            for field in self.plan.fields
            if field.is_plain and not isinstance(self.values[field.name], SQL)
            for condition in plain_conditions(
                self.plan.mapper, field, self.values[field.name]
            )
        ]
        return [*plain, *conjuncts(*self.criteria)]

    def fed_values(self, *, is_flushed: bool) -> dict[str, Any]:
        """Return what the lookup gives a new row, by attribute name.

        Args:
            is_flushed: Whether parents have their keys by now; until then,
                comparisons with them are left out.

        Raises:
            ContradictionError: A criterion contradicts a keyword.
        """
        fed = {
            field.name: self.values[field.name]
            for field in self.plan.fields
            if field.is_settable
        }
        positional = self.criteria[len(self.plan.expressions) :]
        for condition in conjuncts(*positional):
            found = equality(condition)
            if found is None or not self.plan.mapper.columns.contains_column(
                found.left
            ):
                continue
            if found.is_ready or is_flushed:
                name = self.plan.mapper.get_property_by_column(found.left).key
                if name in fed and differs(fed[name], found.value):
                    raise ContradictionError(
                        self.plan.model, name, fed[name], found.value
                    )
                fed[name] = found.value
        if self.criteria or self.plan.has_overlap:
            self._check_agreement(fed)
        return fed

    def _check_agreement(self, fed: Mapping[str, Any]) -> None:
        """Raise if two names give one column two values."""
        pins: dict[Any, Any] = {}
        for name, value in fed.items():
            for column, pin in pins_of(self.plan.mapper, name, value).items():
                if column in pins and differs(pins[column], pin):
                    raise ContradictionError(self.plan.model, name, pins[column], pin)
                pins[column] = pin


def bind(
    session: AsyncSession,
    model: type[T],
    criteria: Sequence[Any],
    values: Mapping[str, Any],
    *,
    options: Sequence[ORMOption] = (),
    with_for_update: ForUpdateParameter = None,
) -> Lookup[T]:
    """Check the arguments, and bind them to the plan for their names.

    Raises:
        ValueError: There is nothing to look up by, or it cannot identify a row.
        TypeError: A criterion is not an SQL expression.
        UnknownFieldError: A name is no mapped attribute.
    """
    check_lookup(model, criteria, values)
    plan = plan_for(model, values)
    parents = tuple(parents_of(session, plan, values)) if plan.parents else ()
    # The plan's own criteria come first; see Lookup.names.
    if plan.expressions:
        built = (getattr(model, f.name) == values[f.name] for f in plan.expressions)
        criteria = (*built, *criteria)
    statement = plan.statement
    if criteria:
        statement = statement.where(*criteria)
    if options != ():
        options = checked_options(model, options)
        statement = statement.options(*options)
    lock = None if with_for_update is False else with_for_update
    if lock is not None:
        statement = locking(statement, lock)
    given = tuple(criteria), statement, parents, tuple(options), lock
    lookup = Lookup(plan, values, *given)
    if criteria or plan.has_overlap:
        lookup.fed_values(is_flushed=False)  # Do they contradict each other?
    return lookup
