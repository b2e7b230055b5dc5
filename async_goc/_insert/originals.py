"""Put the caller's objects back to what they were before a guard."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm import InstanceState, RelationshipProperty, Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.base import LoaderCallableStatus
from sqlalchemy.orm.collections import collection_adapter


class Originals:
    """The values of the objects that a guard has changed, from before it did.

    SQLAlchemy expires each object that was modified inside a SAVEPOINT when that is
    rolled back, and the next access would need the database. A new row modifies its
    parent just by being appended to a loaded collection of it.

    Everything before the guard has been flushed, so the committed values are both
    what the caller saw and what the rollback returns the database to.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        # Everything that has been new since the guard began.
        self._new: set[InstanceState[Any]] = set()
        # {state: {attribute: value, or the members of a collection}}
        self._values: dict[InstanceState[Any], dict[str, Any]] = {}
        # {state: columns whose value was changed in place, so that nobody knows it}
        self._changed_in_place: dict[InstanceState[Any], set[str]] = {}
        # The collections themselves, which the caller may hold: (state, attribute, it).
        self._held: list[tuple[InstanceState[Any], str, Any]] = []
        # The attributes that have been assumed to be empty.
        self._assumed: list[tuple[Any, str]] = []
        # The instances that the guard inserts.
        self._losers: list[Any] = []

    @contextmanager
    def noted(self) -> Generator[None, None, None]:
        """Note the values of every changed object, before each flush in here."""
        event.listen(self._session, "before_flush", self._note)
        try:
            yield
        except BaseException:
            self._note(self._session)  # changed, and not flushed
            raise
        finally:
            event.remove(self._session, "before_flush", self._note)

    def add(self, instance: object) -> None:
        """Take *instance* out of what it refers to if the guard fails.

        Raises TypeError if the instance was in the database before the guard.
        """
        self._losers.append(instance)
        state: Any = inspect(instance)
        if state.persistent and state not in self._new:
            msg = f"factory returned {instance!r}, which is not new; make a new one"
            raise TypeError(msg)

    def assume_empty(self, parents: Iterable[tuple[Any, str]]) -> None:
        """Take the other side of each one-to-one parent for empty, unless it is loaded.

        The lookup has found no row that refers to the parent. Were the other side left
        unloaded, the flush would load it to learn which row the new one replaces, see
        a rival's, and set that row's foreign key to NULL.

        Args:
            parents: The instances, each with the name of its attribute on the other
                side.
        """
        for parent, name in parents:
            state: InstanceState[Any] = inspect(parent)
            prop = state.mapper.relationships.get(name)
            if prop is not None and not prop.uselist and name not in state.dict:
                set_committed_value(parent, name, None)
                self._assumed.append((parent, name))

    def restore(self) -> None:
        """Put all back, without SQL."""
        persistent = [state for state in self._values if state.persistent]
        # Columns first: collections read keys and positions from their members.
        for is_column in (True, False):
            for state in persistent:
                for name, value in self._values[state].items():
                    if (name in state.mapper.column_attrs) is is_column:
                        set_committed_value(state.object, name, value)
        for state, name, held in self._held:
            if state.persistent:
                _refill(state, name, held)
        for parent, name in self._assumed:
            if parent in self._session:
                self._session.expire(parent, [name])
        for loser in self._losers:
            _take_out(loser)

    def unknown(self) -> list[tuple[object, set[str]]]:
        """The columns that only the database can put back."""
        changed = self._changed_in_place.items()
        return [(state.object, names) for state, names in changed if state.persistent]

    def _note(self, session: Session, *_: object) -> None:
        self._new.update(map(inspect, session.new))
        for instance in (*session.dirty, *session.deleted, *_children(session.new)):
            state: InstanceState[Any] = inspect(instance)
            is_known = state in self._values
            values = self._values.setdefault(state, {})
            # A changed collection's committed value is a list of its members.
            loaded = {**state.dict, **state.committed_state}
            for prop in state.mapper.column_attrs:
                value = loaded.get(prop.key, LoaderCallableStatus.NO_VALUE)
                if _is_lost(state, prop.key, value):
                    self._changed_in_place.setdefault(state, set()).add(prop.key)
                elif not is_known and not isinstance(value, LoaderCallableStatus):
                    values[prop.key] = value
            for name in () if is_known else _loaded_relationships(state, loaded):
                values[name] = self._members_or_value(state, name, loaded[name])

    def _members_or_value(
        self, state: InstanceState[Any], name: str, value: Any
    ) -> Any:
        if not state.mapper.relationships[name].uselist:
            return value
        if name in state.dict:
            self._held.append((state, name, state.dict[name]))
        is_changed = name in state.committed_state
        return value if is_changed else list(collection_adapter(value))


def _loaded_relationships(
    state: InstanceState[Any], loaded: dict[str, Any]
) -> list[str]:
    return [
        prop.key
        for prop in state.mapper.relationships
        if not _is_query(prop)
        and not isinstance(
            loaded.get(prop.key, LoaderCallableStatus.NO_VALUE), LoaderCallableStatus
        )
    ]


def _is_query(prop: RelationshipProperty[Any]) -> bool:
    """Whether it holds no objects, but a way to ask for them."""
    return prop.lazy in {"dynamic", "write_only"}


def _is_lost(state: InstanceState[Any], name: str, value: object) -> bool:
    """Whether a column could be read, and its old value is not to be had here."""
    if name not in state.dict and name not in state.committed_state:
        # Never set, it reads as None; deferred or expired, it could not be read.
        is_deferred = name in state.callables or state.mapper.attrs[name].deferred
        return not is_deferred and name not in state.expired_attributes
    if name not in state.dict or name not in state.committed_state:
        return False
    # A mutable value that was replaced no longer knows whose it is.
    return isinstance(value, LoaderCallableStatus | MutableBase)


def _children(instances: Iterable[Any]) -> list[Any]:
    """The members of loaded collections that are in the database already.

    The unit of work writes their foreign keys, without their being changed before.
    """
    return [
        member
        for state in map(inspect, instances)
        for prop in state.mapper.relationships
        if prop.uselist and not _is_query(prop) and prop.key in state.dict
        for member in collection_adapter(state.dict[prop.key])
        if inspect(member).persistent
    ]


def _refill(state: InstanceState[Any], name: str, held: Any) -> None:
    """Make the collection that the caller may hold the attribute's again."""
    fresh = state.dict[name]
    kinds: tuple[Any, ...] = (list, set, dict)
    plain: Any = next((kind for kind in kinds if isinstance(held, kind)), None)
    if plain is None:
        return  # a class of the caller's: the attribute has a new one
    # Not through the instrumented methods: nothing shall be recorded as a change.
    plain.clear(held)
    fill = getattr(plain, "extend", None) or plain.update
    fill(held, fresh)
    collection_adapter(held).invalidated = False
    state.dict[name] = held


def _take_out(loser: Any) -> None:
    """Remove *loser* from the other side of each of its relationships.

    The objects there that are in the session have been put back; those that are new
    themselves still refer to it, and would take it along into the next INSERT.
    """
    state: InstanceState[Any] = inspect(loser)
    relationships: Any = state.mapper.relationships
    for prop in relationships:
        value = state.dict.get(prop.key)
        if value is None or prop.back_populates is None or _is_query(prop):
            continue
        others = list(collection_adapter(value)) if prop.uselist else [value]
        for other in others:
            _forget(other, prop.back_populates, loser)


def _forget(other: Any, name: str, loser: object) -> None:
    there = inspect(other).dict.get(name)
    if there is loser:
        set_committed_value(other, name, None)
    elif there is True:  # write-only
        getattr(other, name).remove(loser)
    elif hasattr(there, "_sa_adapter"):
        members = collection_adapter(there)
        if any(member is loser for member in members):
            set_committed_value(other, name, [m for m in members if m is not loser])
