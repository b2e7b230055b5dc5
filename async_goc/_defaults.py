"""Work out what a new row gets, and make the instance."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeGuard

from sqlalchemy.orm import Mapper, QueryableAttribute

from ._criteria import differs
from ._fields import T, default_field, memory, unknown
from ._lookup import Lookup
from ._plan import pins_of
from .exceptions import ContradictionError

Values: TypeAlias = Mapping[Any, Any]
Defaults: TypeAlias = Values | Callable[[], Values | Awaitable[Values]]
Factory: TypeAlias = Callable[..., T | Awaitable[T]]

# Which names a function takes as keywords; ``None``: any.
Parameters: TypeAlias = frozenset[str] | None


class NewRow(Generic[T]):
    """The recipe for a new row: lookup values, defaults and factory.

    Raises:
        UnknownFieldError: The defaults name something the model cannot take.
        ContradictionError: A default contradicts the lookup.
        TypeError: The defaults or the factory are of the wrong type.
    """

    __slots__ = ("_defaults", "_factory", "_lookup")

    def __init__(
        self,
        lookup: Lookup[T],
        defaults: Defaults | None,
        factory: Factory[T] | None,
    ) -> None:
        if factory is not None and not callable(factory):
            msg = f"factory is {factory!r}; give a function that makes the instance"
            raise TypeError(msg)
        self._lookup = lookup
        self._factory = factory
        self._defaults: Any = {} if defaults is None else defaults
        if not callable(self._defaults):
            self._defaults = self._checked(self._defaults, is_flushed=False)

    async def values(self) -> dict[str, Any]:
        """Evaluate the defaults, once; the caller has flushed.

        Raises:
            UnknownFieldError: As above, where the defaults were a function.
            ContradictionError: As above, where the value was a function.
        """
        defaults = self._defaults
        if callable(defaults):
            defaults = self._checked(await _called(defaults), is_flushed=True)
        evaluated = {
            name: await _called(value) if callable(value) else value
            for name, value in defaults.items()
        }
        checked = self._checked(evaluated, is_flushed=True)
        return {**self._lookup.fed_values(is_flushed=True), **checked}

    async def make(self, values: Mapping[str, Any]) -> T:
        """Return a new instance with *values*.

        Raises:
            TypeError: The factory returned something else.
        """
        model = self._lookup.plan.model
        if self._factory is None:
            return _construct(self._lookup.plan.mapper, values)
        instance = await _called(self._factory, **values)
        if not isinstance(instance, model):
            msg = f"factory returned {instance!r}; return the new {model.__name__}"
            raise TypeError(msg)
        return instance

    def _checked(self, defaults: object, *, is_flushed: bool) -> dict[str, Any]:
        """Return *defaults* by name, once each is known to be legal."""
        if not _is_mapping(defaults):
            msg = f"the defaults are {defaults!r}; give a mapping, or a function of one"
            raise TypeError(msg)
        plan = self._lookup.plan
        checked: dict[str, Any] = {}
        for key, value in defaults.items():
            name = _name(key)
            field = default_field(plan.mapper, name)
            if field is None:
                if not self._is_argument(name):
                    raise unknown(plan.mapper, name)
            elif not callable(value) and (
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
            if differs(fed[name], value):
                raise ContradictionError(plan.model, name, fed[name], value)
            return
        pins = pins_of(plan.mapper, name, value)
        for other in fed if pins else ():
            for column, theirs in pins_of(plan.mapper, other, fed[other]).items():
                if column in pins and differs(theirs, pins[column]):
                    raise ContradictionError(plan.model, name, theirs, pins[column])

    def _is_argument(self, name: str) -> bool:
        """Whether the factory, or the class's own constructor, takes *name*."""
        maker = self._factory or _own_constructor(self._lookup.plan.mapper)
        if maker is None:
            return False
        accepted = _parameters(maker)
        return accepted is None or name in accepted


def _is_mapping(defaults: object) -> TypeGuard[Values]:
    return isinstance(defaults, Mapping)


def _name(key: object) -> str:
    """The attribute name that a key of the defaults stands for."""
    name = key.key if isinstance(key, QueryableAttribute) else key
    if not isinstance(name, str):
        msg = f"default {key!r} is no name; use a string or a mapped attribute"
        raise TypeError(msg)
    return name


async def _called(function: Callable[..., Any], **values: Any) -> Any:
    result = function(**values)
    return await result if inspect.isawaitable(result) else result


def _construct(mapper: Mapper[T], values: Mapping[str, Any]) -> T:
    accepted = memory(mapper, "constructor", lambda: _constructor_parameters(mapper))
    if accepted is None:
        return mapper.class_(**values)
    # What the constructor does not take (a dataclass field with init=False, say)
    # is set afterwards.
    taken = {name: value for name, value in values.items() if name in accepted}
    instance = mapper.class_(**taken)
    for name, value in values.items():
        if name not in taken:
            setattr(instance, name, value)
    return instance


def _constructor_parameters(mapper: Mapper[Any]) -> Parameters:
    own = _own_constructor(mapper)
    return None if own is None else _parameters(own)


def _own_constructor(mapper: Mapper[Any]) -> Callable[..., Any] | None:
    """The class's ``__init__``; ``None`` where it has SQLAlchemy's."""
    init: Any = mapper.class_manager.original_init
    return None if init.__module__.startswith("sqlalchemy.") else init


def _parameters(function: Callable[..., Any]) -> Parameters:
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(p.name for p in parameters if p.kind in named)
