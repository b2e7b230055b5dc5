"""Keep each session's answers, as long as the session vouches for them."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import ref

from sqlalchemy import Dialect, event
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_state

from .._call import Call
from .._databases import connections_of
from .._lookup import Lookup
from .._models import readable
from .._turns import freezer, is_coarse
from .columns import is_beyond_control, may_follow, names_of, unrelated, values_of
from .key import Key, exact, is_alike

_KEY: Final = "async_goc.unique"
_MISSING: Final = object()


# A hit has to be what a SELECT would find at that moment, the flush before it included.
# So an object is kept with the values that its row is known to have: those that were
# loaded or flushed, in the columns that the lookup is about. It is handed out while it
# has the same values, and the next flush cannot change them by itself. In every other
# case the database is asked, which is never wrong.


@dataclass(slots=True, eq=False)
class Known:
    """An object that was found, or created, under a key."""

    instance: ref[Any]
    mapper: Mapper[Any]
    # What its row has in the columns that the lookup is about, by attribute name.
    values: Mapping[str, Any]
    # The attributes of a new row that cannot contradict the lookup.
    unrelated: frozenset[str]
    # Whether a flush may change that though nobody has set it.
    is_following: bool
    # Whether a unique constraint is known to cover the lookup.
    is_covered: bool

    def believed(self, call: Call) -> Any:
        """Return the object, if the database would still answer with it."""
        instance, session = self.instance(), call.session.sync_session
        if instance is None or instance not in session or _has_lost(session):
            return None
        state: Any = instance_state(instance)
        # A deletion may take more rows along than the object's.
        if session.deleted or state.key is None:
            return None
        if (state.modified and self._is_heard(session)) or (
            self.is_following and (session.new or session.dirty)
        ):
            return None
        if state.expired_attributes or state.callables:
            # The caller is to read all columns. (What was never set reads as None.)
            unloaded = readable(self.mapper) - state.dict.keys()
            unread = state.expired_attributes | state.callables.keys()
            if not unloaded.isdisjoint(unread):
                return None
        loaded = state.dict
        for name, value in self.values.items():
            if not is_alike(value, loaded.get(name, _MISSING)):
                return None
        return instance

    def _is_heard(self, session: Session) -> bool:
        """Whether a listener hears of changes in a flush, and may make more."""
        return bool(self.mapper.dispatch.before_update or session.dispatch.before_flush)


def _has_lost(session: Session) -> bool:
    """Whether what the transaction has created has gone with its connection."""
    for connection in connections_of(session):  # noqa: SIM110 - any() takes longer
        if connection.invalidated:
            return True
    return False


def known_by(call: Call, key: Key) -> Known | None:
    cache: dict[Key, Known] = call.session.sync_session.info.get(_KEY, {})
    try:
        return cache.get(key)
    except Exception:  # noqa: BLE001 - a key may raise anything as it is compared
        return None


def remember(call: Call, key: Key, lookup: Lookup[Any], instance: object) -> None:
    """Keep the answer, if the row is known to be what was looked up."""
    session, state = call.session.sync_session, instance_state(instance)
    mapper: Any = state.mapper
    names = names_of(lookup, mapper)
    if names is None or is_beyond_control(mapper, names):
        return
    if not names <= state.dict.keys() - state.committed_state.keys():
        return  # The database does not know these values yet, or the object does not.
    values = {name: state.dict[name] for name in names}
    try:
        list(map(exact, values.values()))
    except Exception:  # noqa: BLE001 - a value may raise anything from __hash__
        return  # They may change in place.
    cache: dict[Key, Known] = session.info.setdefault(_KEY, {})
    if _is_outdated(lookup, mapper, values, key.database):
        # Then it is not what it was under its other keys, either.
        for other, known in list(cache.items()):
            if known.instance() is instance:
                _forget(cache, other)
        return
    known = Known(
        # A reference that has been replaced does not call this.
        ref(instance, lambda _: _forget(cache, key)),
        mapper,
        values,
        unrelated(lookup.plan.mapper, mapper, names),
        is_following=may_follow(mapper, names),
        is_covered=call.policy.missing_constraint == "error",
    )
    with suppress(Exception):  # It is then asked for each time.
        cache[key] = known


def _forget(cache: dict[Key, Known], key: Key) -> None:
    try:
        cache.pop(key, None)
    except Exception:  # noqa: BLE001 - its hash, say, cannot be had any more
        cache.clear()


def _is_outdated(
    lookup: Lookup[Any],
    mapper: Mapper[Any],
    values: Mapping[str, Any],
    dialect: Dialect,
) -> bool:
    """Whether the row has been looked up by other values than the object has."""
    attribute: Any
    for attribute, wanted in values_of(lookup, mapper):
        known = values[attribute.key]
        if is_alike(known, wanted):
            continue
        freeze = freezer(attribute.columns[0].type, dialect)
        kept = freeze(known)
        if is_coarse(kept) or kept != freeze(wanted):
            return True
    return False


@event.listens_for(Session, "after_soft_rollback")
def _on_rollback(session: Session, _: object) -> None:
    # What was found inside a SAVEPOINT may have gone with it, and is not expired.
    session.info.pop(_KEY, None)


@event.listens_for(Session, "detached_to_persistent")
def _on_return(session: Session, _: object) -> None:
    # The row may have gone, or changed, while the object was in no session.
    session.info.pop(_KEY, None)


@event.listens_for(Session, "persistent_to_deleted")
def _on_delete(session: Session, _: object) -> None:
    # The database may have deleted, or changed, the rows that referred to it.
    session.info.pop(_KEY, None)
