"""Check, and evaluate once, what a row gets beyond the lookup."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeGuard

from sqlalchemy.orm import Mapper, QueryableAttribute

from .._lookup import Lookup, pins_of
from .._models import default_field, differs, unknown_field
from ..exceptions import ContradictionError

Values: TypeAlias = Mapping[Any, Any]
Defaults: TypeAlias = Values | Callable[[], Values | Awaitable[Values]]


class NewValues:
    """What a row gets beyond the lookup: checked at once, and evaluated once."""

    def __init__(
        self,
        lookup: Lookup[Any],
        defaults: Defaults | None,
        *,
        takes: Callable[[str], bool] | None = None,
        may_contradict: bool = False,
    ) -> None:
        self._lookup = lookup
        # Whether a name is legal without being an attribute.
        self._takes = takes
        # Whether a column that is looked up may get another value.
        self.may_contradict = may_contradict
        # The result of the first evaluation: after a lost race, update_or_create()
        # needs the values a second time, and no function may run twice.
        self._values: dict[str, Any] | None = {} if defaults is None else None
        self._defaults: Any = {} if defaults is None else defaults
        if defaults is not None and not callable(defaults):
            self._defaults = self._checked(defaults, is_flushed=False)

    @property
    def is_lazy(self) -> bool:
        """Whether there are functions to call."""
        defaults = self._defaults
        return callable(defaults) or any(map(callable, defaults.values()))

    async def values(self) -> dict[str, Any]:
        """Return the values, evaluated the first time; the caller has flushed."""
        if self._values is None:
            self._values = await self.afresh()
        return self._values

    async def afresh(self) -> dict[str, Any]:
        """Return the values, evaluated once more."""
        defaults = self._defaults
        if callable(defaults):
            defaults = self._checked(await called(defaults), is_flushed=True)
        evaluated = {
            name: await called(value) if callable(value) else value
            for name, value in defaults.items()
        }
        return self._checked(evaluated, is_flushed=True)

    def _checked(self, defaults: object, *, is_flushed: bool) -> dict[str, Any]:
        """Return *defaults* by name, or raise if one is not legal."""
        if not is_mapping(defaults):
            kind = type(defaults).__name__
            msg = f"defaults is of type {kind}; give a mapping, or a function of one"
            raise TypeError(msg)
        plan = self._lookup.plan
        checked: dict[str, Any] = {}
        for key, value in defaults.items():
            name = _name(key, plan.model)
            field = default_field(plan.mapper, name)
            if field is None:
                if self._takes is None or not self._takes(name):
                    unknown = unknown_names(plan.mapper, defaults, self._takes)
                    raise unknown_field(plan.mapper, *unknown)
            elif not (self.may_contradict or callable(value)) and (
                # Most defaults have nothing in common with the lookup.
                self._lookup.criteria
                or name in self._lookup.values
                or not plan.columns.isdisjoint(field.columns)
            ):
                self._compare(name, value, is_flushed=is_flushed)
            checked[name] = value
        return checked

    def _compare(self, name: str, value: object, *, is_flushed: bool) -> None:
        """Raise if the lookup gives the new row another value than *value*."""
        plan = self._lookup.plan
        fed = self._lookup.fed_values(is_flushed=is_flushed)
        if name in fed:
            prop = plan.mapper.column_attrs.get(name)
            column = None if prop is None else prop.columns[0]
            if differs(fed[name], value, column):
                raise ContradictionError(plan.model, name, fed[name], value)
            return
        # Another name may set the same column: a relationship and its foreign key, say.
        pins = pins_of(plan.mapper, name, value)
        for other in fed if pins else ():
            for column, theirs in pins_of(plan.mapper, other, fed[other]).items():
                if column in pins and differs(theirs, pins[column], column):
                    raise ContradictionError(plan.model, name, theirs, pins[column])


def unknown_names(
    mapper: Mapper[Any], defaults: object, takes: Callable[[str], bool] | None = None
) -> list[str]:
    """Return the names in *defaults* that are not legal; of a lazy mapping, none."""
    keys = defaults if is_mapping(defaults) else ()
    names = [_name(key, mapper.class_) for key in keys]
    unknown = [name for name in names if default_field(mapper, name) is None]
    return unknown if takes is None else [n for n in unknown if not takes(n)]


async def called(function: Callable[[], Any]) -> Any:
    """Return what the function returns, awaited if it has to be."""
    result = function()
    return await result if inspect.isawaitable(result) else result


def is_mapping(given: object) -> TypeGuard[Values]:
    """Whether names, or attributes, with values are given."""
    return isinstance(given, Mapping)


def _name(key: Any, model: type[object]) -> str:
    """Return the attribute name that a key of the defaults stands for."""
    if _is_attribute(key):
        owner: Any = key.class_
        return key.key if issubclass(model, owner) else str(key)
    if not isinstance(key, str):
        kind = type(key).__name__
        msg = f"a default's name is of type {kind}; use a string or a mapped attribute"
        raise TypeError(msg)
    return key


def _is_attribute(key: object) -> TypeGuard[QueryableAttribute[Any]]:
    return isinstance(key, QueryableAttribute)
