"""Call the model's constructor, and say what it is known to do."""

import inspect
from collections.abc import Callable, Container, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, Final

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.base import LoaderCallableStatus
from sqlalchemy.orm.interfaces import MANYTOONE

from .._models import T, remembered

# What `dataclasses` calls the function that it generates. Without it, the constructors
# of dataclasses are taken for hand-written ones, whose rows need the unit of work.
_BY_DATACLASSES: Final = "__create_fn__.<locals>.__init__"

# The types of a field's default, and the factories, that make no other object. One of
# SQLAlchemy's stands for None since 2.1.
_NO_DEFAULTS: Final = (NoneType, type(MISSING), LoaderCallableStatus)
_EMPTY: Final[tuple[Any, ...]] = (MISSING, list, set, dict)


def construct(mapper: Mapper[T], values: Mapping[str, Any]) -> T:
    """Return a new instance with *values*."""
    accepted = _accepted(mapper)
    if accepted is None:
        return mapper.class_(**values)
    # The rest is set afterwards: a dataclass field with init=False, say.
    taken = {name: value for name, value in values.items() if name in accepted}
    instance = mapper.class_(**taken)
    for name, value in values.items():
        if name not in taken:
            setattr(instance, name, value)
    return instance


@remembered
def has_constructor(mapper: Mapper[Any]) -> bool:
    """Whether the class has a constructor of its own, or a dataclass's defaults."""
    return own_constructor(mapper) is not None or is_dataclass(mapper.class_)


@remembered
def has_generated_constructor(mapper: Mapper[Any]) -> bool:
    """Whether the constructor only sets its arguments, and its fields' defaults."""
    init: Any = own_constructor(mapper)
    if init is None:
        return not _overrides(mapper.class_, object)
    code = getattr(init, "__code__", None)
    if code is not None and code.co_qualname == _BY_DATACLASSES:
        has_hook = hasattr(mapper.class_, "__post_init__")
        return not has_hook and not _overrides(mapper.class_, object)
    return _is_of_library(mapper.class_, init)


@remembered
def sets_parent(mapper: Mapper[Any]) -> bool:
    """Whether a dataclass sets a parent to None, whose key a flush then copies."""
    # SQLAlchemy 2.1 leaves it unset, and has another default here.
    absent = {f.name for f in _fields(mapper.class_) if f.default is None}
    return any(
        prop.key in absent and prop.direction is MANYTOONE
        for prop in mapper.relationships
    )


@remembered
def fills_relationship(mapper: Mapper[Any]) -> bool:
    """Whether a dataclass may make other objects, which only a flush inserts."""
    return any(
        field.name in mapper.relationships
        and not (
            isinstance(field.default, _NO_DEFAULTS) and field.default_factory in _EMPTY
        )
        for field in _fields(mapper.class_)
    )


def own_constructor(mapper: Mapper[Any]) -> Callable[..., Any] | None:
    """Return the class's ``__init__``; ``None`` where it has SQLAlchemy's."""
    init: Any = mapper.class_manager.original_init
    parent = mapper.inherits
    if parent is not None and init is parent.class_.__init__:
        # SQLAlchemy has wrapped the parent's, and the wrapper is its own.
        return own_constructor(parent)
    is_stock = getattr(init, "__module__", "").startswith("sqlalchemy.")
    return None if is_stock else init


def parameters_of(function: Callable[..., Any]) -> Container[str] | None:
    """Return the keywords that *function* takes; ``None``: any."""
    if function is object.__init__:
        return ()
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(p.name for p in parameters if p.kind in named)


def is_argument(mapper: Mapper[Any], name: str) -> bool:
    """Whether the class's own constructor names that among its arguments."""
    accepted = _accepted(mapper)
    return accepted is not None and name in accepted


@remembered
def _accepted(mapper: Mapper[Any]) -> Container[str] | None:
    own = own_constructor(mapper)
    return None if own is None else parameters_of(own)


def _fields(model: type[Any]) -> Any:
    return fields(model) if is_dataclass(model) else ()


def _is_of_library(model: type[Any], init: Any) -> bool:
    """Whether a library makes instances from their fields, and the model lets it."""
    # PEP 681 marks the metaclass of such a library, and the constructor comes with it.
    library: Any = type(model)
    is_marked = hasattr(library, "__dataclass_transform__")
    if not is_marked or init.__module__ != library.__module__:
        return False
    owner = next((c for c in model.__mro__ if vars(c).get("__init__") is init), None)
    return owner is not None and not _overrides(model, owner)


def _overrides(model: type[Any], owner: type[Any]) -> bool:
    """Whether the model replaces what the constructor of *owner* may call."""
    # Any method may be a hook of it; those of operators, such as `__repr__`, are none.
    methods = inspect.getmembers_static(owner, inspect.isfunction)
    names = {name for name, _ in methods if not name.startswith("__")}
    return any(
        inspect.getattr_static(model, name) is not inspect.getattr_static(owner, name)
        for name in (*names, "__new__", "__setattr__")
    )
