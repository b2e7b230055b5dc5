"""Work out all that a new row gets, and make the instance."""

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Generic, TypeAlias, cast

from sqlalchemy import inspect as sa_inspect, null
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.util import await_only

from .._lookup import Lookup, Plan
from .._models import (
    T,
    conjuncts,
    default_field,
    equality,
    unknown_field,
)
from ..exceptions import UnknownFieldError
from .constructor import construct, own_constructor, parameters_of
from .values import Defaults, NewValues, is_mapping, unknown_names

Factory: TypeAlias = Callable[..., T | Awaitable[T]]


class NewRow(Generic[T]):
    """The recipe for a new row: lookup values, defaults and factory."""

    def __init__(
        self,
        lookup: Lookup[T],
        defaults: Defaults | None = None,
        factory: Factory[T] | None = None,
        *,
        takes_arguments: bool = True,
        may_contradict: bool = False,
    ) -> None:
        if factory is not None and not callable(factory):
            kind = type(factory).__name__
            msg = f"factory is of type {kind}; give a function that makes the instance"
            raise TypeError(msg)
        self.lookup: Lookup[T] = lookup
        self._factory = factory
        # A default that is no attribute may be an argument of what makes the instance,
        # but not where it is also meant for a row that is there.
        mapper = lookup.plan.mapper
        takes = partial(takes_argument, factory, mapper) if takes_arguments else None
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
        """Return all that the row gets, evaluated once; the caller has flushed."""
        defaults = await self.new_values.values()
        mapper = self.lookup.plan.mapper
        fed = self.lookup.fed_values(is_flushed=True)
        if self.lookup.nulls and not self.has_factory:
            # Also by the columns' own names: a dataclass fills those that it lacks.
            fed = dict.fromkeys(self.lookup.nulls) | fed
        if self.new_values.may_contradict:
            # A default replaces what the lookup says, also under another name: a
            # relationship's foreign key, say.
            changed = {c for name in defaults for c in _columns(mapper, name)}
            fed = {n: fed[n] for n in fed if changed.isdisjoint(_columns(mapper, n))}
        values = fed | defaults
        if len(values) > 1 and mapper.relationships:
            # Columns come first: a parent's keyed or ordered collection reads them as
            # soon as the relationship is set.
            is_late = mapper.relationships.__contains__
            values = dict(sorted(values.items(), key=lambda item: is_late(item[0])))
        return values

    def one_to_one_parents(self, values: Mapping[str, Any]) -> list[tuple[Any, str]]:
        """Return the parents looked up by, and their attributes that refer back."""
        plan = self.lookup.plan
        if not plan.mapper.relationships:
            return []
        compared = filter(None, map(equality, conjuncts(*self.lookup.criteria)))
        fixed = plan.columns.union(found.left for found in compared)
        fields = filter(None, (default_field(plan.mapper, name) for name in values))
        return [
            (values[field.name], field.reverse)
            for field in fields
            # A parent among the defaults counts if the lookup has its foreign key.
            if fixed.issuperset(field.columns)
            and field.reverse is not None
            and values[field.name] is not None
        ]

    def make(self, values: Mapping[str, Any]) -> T:
        """Return a new instance with *values*; in a greenlet of the session's."""
        made = self._make(values)
        if self.lookup.nulls:
            _keep_nulls(made, self.lookup.nulls)
        return made

    def _make(self, values: Mapping[str, Any]) -> T:
        model = self.lookup.plan.model
        if self._factory is None:
            return construct(self.lookup.plan.mapper, values)
        instance: Any = self._factory(**values)
        if inspect.isawaitable(instance):
            instance = await_only(instance)
        if not isinstance(instance, model):
            kind = type(instance).__name__
            msg = f"factory returned a value of type {kind}; return a {model.__name__}"
            raise TypeError(msg)
        return instance


def takes_argument(
    factory: Factory[Any] | None, mapper: Mapper[Any], name: str
) -> bool:
    """Whether the factory, or else the class's own constructor, takes that name."""
    # Most names are attributes, so the signature is read only when it is needed.
    maker = factory or own_constructor(mapper)
    names = () if maker is None else parameters_of(maker)
    return names is None or name in names


def all_unknown(
    error: UnknownFieldError, factory: Factory[Any] | None, *given: object
) -> UnknownFieldError:
    """Return the error of the first unknown names, with those of all defaults.

    Of *given*, only what the first one names may be arguments and no attributes.
    """
    mapper = class_mapper(error.model)
    takes: Any = partial(takes_argument, factory, mapper)
    names = [*error.fields]
    for defaults in given:
        names += unknown_names(mapper, defaults, takes)
        takes = None
    return unknown_field(mapper, *dict.fromkeys(names))


def note_unrelated(plan: Plan[Any], defaults: object) -> None:
    """Remember the defaults that are legal with this plan, whatever the values are."""
    for name in defaults if is_mapping(defaults) else ():
        columns = _columns(plan.mapper, name) if isinstance(name, str) else ()
        if columns and plan.columns.isdisjoint(columns):
            plan.unrelated.add(name)


def has_no_say(plan: Plan[Any], defaults: object) -> bool:
    """Whether the defaults are legal, and cannot contradict the lookup."""
    if isinstance(defaults, dict):
        return plan.unrelated.issuperset(cast("dict[str, Any]", defaults))
    return callable(defaults)  # What it returns is checked after a miss.


def _columns(mapper: Mapper[Any], name: str) -> tuple[Any, ...]:
    """Return the columns that an attribute sets."""
    field = default_field(mapper, name)
    return () if field is None else field.columns


def _keep_nulls(instance: object, names: Collection[str]) -> None:
    """Let a flush store NULL in these columns, where the new instance has None."""
    # It would store the column's default, or a JSON null. The NULL comes only now, and
    # tells no listener, because constructors, validators and the like expect None.
    state: Any = sa_inspect(instance)
    if state.key is not None:
        return  # A factory has flushed it.
    mapper = state.mapper
    for name in names:
        if state.dict.get(name) is None:
            set_committed_value(instance, name, null())
    for prop in mapper.relationships:
        # A flush would copy the key of no parent, which is None, over the NULL.
        locals_ = map(mapper.get_property_by_column, prop.local_columns)
        is_none = state.dict.get(prop.key, prop) is None
        if is_none and any(local.key in names for local in locals_):
            set_committed_value(instance, prop.key, None)
