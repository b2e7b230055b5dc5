"""Work out what a new row gets, and make the instance."""

import inspect
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import is_dataclass
from typing import Any, Final, Generic, TypeAlias, TypeGuard

from sqlalchemy import null
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.util import await_only

from ._criteria import conjuncts, differs, equality
from ._fields import T, default_field, memory, unknown
from ._lookup import Lookup
from ._plan import pins_of
from .exceptions import ContradictionError

Values: TypeAlias = Mapping[Any, Any]
Defaults: TypeAlias = Values | Callable[[], Values | Awaitable[Values]]
Factory: TypeAlias = Callable[..., T | Awaitable[T]]


class _Anything(Container[str]):
    """The keywords of a function that takes any."""

    def __contains__(self, name: object) -> bool:
        return True


_ANYTHING: Final = _Anything()


class NewRow(Generic[T]):
    """The recipe for a new row: lookup values, defaults and factory.

    Raises:
        UnknownFieldError: The defaults name something the model cannot take.
        ContradictionError: A default contradicts the lookup.
        TypeError: The defaults or the factory are of the wrong type.
    """

    __slots__ = ("_defaults", "_factory", "_lookup")

    @property
    def mapper(self) -> Mapper[T]:
        """The model's mapper."""
        return self._lookup.plan.mapper

    @property
    def has_factory(self) -> bool:
        """Whether the caller makes the instance."""
        return self._factory is not None

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
        if defaults is not None and not callable(defaults):
            self._defaults = self._checked(defaults, is_flushed=False)

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
        mapper = self._lookup.plan.mapper
        fed = self._lookup.fed_values(is_flushed=True)
        values = {name: _stored(mapper, name, fed[name]) for name in fed} | checked
        # Columns first: a parent's keyed or ordered collection reads them.
        is_late = mapper.relationships.__contains__
        return dict(sorted(values.items(), key=lambda item: is_late(item[0])))

    def one_to_one_parents(self, values: Mapping[str, Any]) -> list[tuple[Any, str]]:
        """The parents looked up by, each with its attribute that refers back."""
        plan = self._lookup.plan
        compared = filter(None, map(equality, conjuncts(*self._lookup.criteria)))
        fixed = plan.columns.union(found.left for found in compared)
        fields = [
            field
            for name in values
            if (field := default_field(plan.mapper, name)) is not None
            # Also one that the defaults give, if the lookup has its foreign key.
            and fixed.issuperset(field.columns)
        ]
        return [
            (values[field.name], field.reverse)
            for field in fields
            if field.reverse is not None and values[field.name] is not None
        ]

    def make(self, values: Mapping[str, Any]) -> T:
        """Return a new instance with *values*; in a greenlet of the session's.

        Raises:
            TypeError: The factory returned something else.
        """
        model = self._lookup.plan.model
        if self._factory is None:
            return _construct(self._lookup.plan.mapper, values)
        instance: Any = self._factory(**values)
        if inspect.isawaitable(instance):
            instance = await_only(instance)
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
            name = _name(key, plan.model)
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
        return maker is not None and name in _parameters(maker)


def has_constructor(mapper: Mapper[Any]) -> bool:
    """Whether the class has one of its own, or a dataclass's defaults."""
    return _own_constructor(mapper) is not None or is_dataclass(mapper.class_)


def _stored(mapper: Mapper[Any], name: str, value: Any) -> Any:
    """What to give a new row so that the lookup by *value* finds it."""
    # Given None, a JSON column stores a JSON null, which is not the NULL looked up.
    if value is None:
        prop = mapper.column_attrs.get(name)
        if prop is not None and prop.columns[0].type.should_evaluate_none:
            return null()
    return value


def _is_mapping(defaults: object) -> TypeGuard[Values]:
    return isinstance(defaults, Mapping)


def _name(key: Any, model: type[object]) -> str:
    """The attribute name that a key of the defaults stands for."""
    if _is_attribute(key):
        owner: Any = key.class_
        return key.key if issubclass(model, owner) else str(key)
    if not isinstance(key, str):
        msg = f"default {key!r} is no name; use a string or a mapped attribute"
        raise TypeError(msg)
    return key


def _is_attribute(key: object) -> TypeGuard[QueryableAttribute[Any]]:
    return isinstance(key, QueryableAttribute)


async def _called(function: Callable[[], Any]) -> Any:
    result = function()
    return await result if inspect.isawaitable(result) else result


def _construct(mapper: Mapper[T], values: Mapping[str, Any]) -> T:
    accepted = memory(mapper, "constructor", lambda: _constructor_parameters(mapper))
    if accepted is _ANYTHING:
        return mapper.class_(**values)
    # What the constructor does not take (a dataclass field with init=False, say)
    # is set afterwards.
    taken = {name: value for name, value in values.items() if name in accepted}
    instance = mapper.class_(**taken)
    for name, value in values.items():
        if name not in taken:
            setattr(instance, name, value)
    return instance


def _constructor_parameters(mapper: Mapper[Any]) -> Container[str]:
    own = _own_constructor(mapper)
    return _ANYTHING if own is None else _parameters(own)


def _own_constructor(mapper: Mapper[Any]) -> Callable[..., Any] | None:
    """The class's ``__init__``; ``None`` where it has SQLAlchemy's."""
    init: Any = mapper.class_manager.original_init
    is_stock = getattr(init, "__module__", "").startswith("sqlalchemy.")
    return None if is_stock else init


def _parameters(function: Callable[..., Any]) -> Container[str]:
    if function is object.__init__:
        return ()
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return _ANYTHING
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(p.name for p in parameters if p.kind in named)
