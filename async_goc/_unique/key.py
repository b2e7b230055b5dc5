"""Tell which calls are the same lookup."""

from collections.abc import Hashable, Mapping
from inspect import iscoroutine
from typing import Any, NamedTuple, cast

from sqlalchemy import Dialect, inspect
from sqlalchemy.orm import InstanceState, class_mapper

from .._call import Call, writer_of
from .._databases import schemas_of
from .._turns import PLAIN

# A key of the queues (`_turns/key`) may be too coarse, which costs a wait. Here that
# would hand out another row's object: `1 == True` in Python, but not in JSON. So values
# are the same only if nothing could tell them apart, whatever their column's type makes
# of them. Where the database takes more for equal, it is asked for each.


class Key(NamedTuple):
    """One lookup in one place."""

    model: type[object]
    # What `unique_hash` returned.
    lookup: Hashable
    # An overridden `unique_hash` may not tell these apart, but the checks do.
    names: frozenset[str]
    has_factory: bool
    # Where a SELECT would look. Each engine has a dialect of its own.
    database: Dialect
    schemas: frozenset[tuple[str | None, str | None]]
    namespace: Hashable


def key_of(call: Call, lookup: Mapping[str, Any], *, has_factory: bool) -> Key | None:
    """Return the key; ``None``: only the database can tell what is looked up."""
    model: Any = call.model
    found = model.unique_hash(**lookup)
    if iscoroutine(found):
        found.close()
        raise TypeError(no_coroutine(model, "unique_hash"))
    try:
        hash(found)
    except TypeError as error:
        msg = (
            f"{model.__name__}.unique_hash() returned a {type(found).__name__} without "
            "a hash; return a hashable value, such as a tuple of plain values"
        )
        raise TypeError(msg) from error
    session = call.session.sync_session
    # Such a listener may add criteria, or send the statement elsewhere.
    if found is None or session.dispatch.do_orm_execute:
        return None
    bind = writer_of(session, class_mapper(model))
    schemas = frozenset(schemas_of(session, bind).items())
    namespace = call.policy.namespace
    names = frozenset(lookup)
    return Key(model, found, names, has_factory, bind.dialect, schemas, namespace)


def no_coroutine(model: type[object], name: str) -> str:
    return (
        f"{model.__name__}.{name}() returned a coroutine; make it a plain classmethod, "
        "and await what it needs before the call"
    )


def exact(value: Any) -> Hashable:
    """Return what is equal only for values that nothing could tell apart.

    Raises an exception where there is no such thing: TypeError, or the value's own.
    """
    kind = cast("Any", type(value))
    if kind in PLAIN:
        return cast("Hashable", value)
    state: Any = inspect(value, raiseerr=False)
    if isinstance(state, InstanceState):
        # Not the instance, which would be kept alive. Without a row it has no key yet.
        if state.persistent:
            return cast("Any", state).key, state.session_id
    # What is equal to nothing but itself, SQL included, may change in place.
    elif kind.__hash__ is not object.__hash__:
        hash(value)
        return kind, value, repr(value)
    msg = "there is no value to compare"
    raise TypeError(msg)


def is_alike(one: object, other: object) -> bool:
    """Whether nothing could tell two values apart, the first of which is exact."""
    if one is other:
        return True
    try:
        return bool(type(one) is type(other) and one == other) and (
            repr(one) == repr(other)
        )
    except Exception:  # noqa: BLE001 - a value may raise anything as it is compared
        return False
