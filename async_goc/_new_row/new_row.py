"""Work out all that a new row gets, and make the instance."""

import inspect
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import is_dataclass
from typing import Any, Final, Generic, TypeAlias

from sqlalchemy import null
from sqlalchemy.orm import Mapper
from sqlalchemy.util import await_only

from .._lookup import Lookup
from .._models import T, conjuncts, default_field, equality, memory
from .values import Defaults, NewValues

Factory: TypeAlias = Callable[..., T | Awaitable[T]]


class _Anything(Container[str]):
    """The keywords of a function that takes any."""

    def __contains__(self, name: object) -> bool:
        return True


_ANYTHING: Final = _Anything()


class Arguments(Container[str]):
    """What the factory, or else the class's own constructor, takes."""

    __slots__ = ("_factory", "_mapper")

    def __init__(self, factory: Factory[Any] | None, mapper: Mapper[Any]) -> None:
        self._factory = factory
        self._mapper = mapper

    def __contains__(self, name: object) -> bool:
        # Only now: most names are attributes, and nobody asks.
        maker = self._factory or _own_constructor(self._mapper)
        return maker is not None and str(name) in _parameters(maker)


class NewRow(Generic[T]):
    """The recipe for a new row: lookup values, defaults and factory.

    Args:
        lookup: The lookup.
        defaults: What the row gets beyond it.
        factory: Makes the instance, in place of the class.
        takes_arguments: Whether a default may be an argument of the factory, or of the
            class's own constructor, without being an attribute.
        may_contradict: Whether a lookup's column may get another value.

    Attributes:
        lookup: The lookup.
        new_values: The defaults, checked.

    Raises:
        UnknownFieldError: The defaults name something the model cannot take.
        ContradictionError: A default contradicts the lookup.
        TypeError: The defaults or the factory are of the wrong type.
    """

    __slots__ = ("_factory", "lookup", "new_values")

    def __init__(
        self,
        lookup: Lookup[T],
        defaults: Defaults | None,
        factory: Factory[T] | None = None,
        *,
        takes_arguments: bool = True,
        may_contradict: bool = False,
    ) -> None:
        if factory is not None and not callable(factory):
            msg = f"factory is {factory!r}; give a function that makes the instance"
            raise TypeError(msg)
        self.lookup: Lookup[T] = lookup
        self._factory = factory
        takes = Arguments(factory, lookup.plan.mapper) if takes_arguments else ()
        self.new_values: NewValues = NewValues(
            lookup, defaults, takes=takes, may_contradict=may_contradict
        )

    @property
    def mapper(self) -> Mapper[T]:
        """The model's mapper."""
        return self.lookup.plan.mapper

    @property
    def has_factory(self) -> bool:
        """Whether the caller makes the instance."""
        return self._factory is not None

    async def values(self) -> dict[str, Any]:
        """Evaluate the defaults, once; the caller has flushed.

        Raises:
            UnknownFieldError: As above, where the defaults were a function.
            ContradictionError: As above, where the value was a function.
        """
        given = await self.new_values.values()
        mapper = self.lookup.plan.mapper
        fed = self.lookup.fed_values(is_flushed=True)
        if self.new_values.may_contradict:
            changed = {c for name in given for c in _columns(mapper, name)}
            fed = {n: fed[n] for n in fed if changed.isdisjoint(_columns(mapper, n))}
        values = {name: _stored(mapper, name, fed[name]) for name in fed} | given
        # Columns first: a parent's keyed or ordered collection reads them.
        is_late = mapper.relationships.__contains__
        return dict(sorted(values.items(), key=lambda item: is_late(item[0])))

    def one_to_one_parents(self, values: Mapping[str, Any]) -> list[tuple[Any, str]]:
        """The parents looked up by, each with its attribute that refers back."""
        plan = self.lookup.plan
        compared = filter(None, map(equality, conjuncts(*self.lookup.criteria)))
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
        model = self.lookup.plan.model
        if self._factory is None:
            return _construct(self.lookup.plan.mapper, values)
        instance: Any = self._factory(**values)
        if inspect.isawaitable(instance):
            instance = await_only(instance)
        if not isinstance(instance, model):
            msg = f"factory returned {instance!r}; return the new {model.__name__}"
            raise TypeError(msg)
        return instance


def has_constructor(mapper: Mapper[Any]) -> bool:
    """Whether the class has one of its own, or a dataclass's defaults."""
    return _own_constructor(mapper) is not None or is_dataclass(mapper.class_)


def _columns(mapper: Mapper[Any], name: str) -> tuple[Any, ...]:
    """The columns that an attribute sets."""
    field = default_field(mapper, name)
    return () if field is None else field.columns


def _stored(mapper: Mapper[Any], name: str, value: Any) -> Any:
    """What to give a new row so that the lookup by *value* finds it."""
    # Given None, a JSON column stores a JSON null, which is not the NULL looked up.
    if value is None:
        prop = mapper.column_attrs.get(name)
        if prop is not None and prop.columns[0].type.should_evaluate_none:
            return null()
    return value


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
