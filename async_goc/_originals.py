"""Put the caller's objects back to what they were before a guard."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import InstanceState, Session
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
        self._has_flushed = False
        # {state: {attribute: value, or the members of a collection}}
        self._values: dict[InstanceState[Any], dict[str, Any]] = {}
        # {state: columns whose value was changed in place, so that nobody knows it}
        self._changed_in_place: dict[InstanceState[Any], set[str]] = {}
        # The collections themselves, which the caller may hold, and their members.
        self._collections: list[tuple[Any, list[Any]]] = []
        # The attributes that have been assumed to be empty.
        self._assumed: list[tuple[Any, str]] = []

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

    def check_new(self, instance: object) -> None:
        """Refuse an instance that was in the database before the guard.

        Raises:
            TypeError: The factory returned such a one.
        """
        state: Any = inspect(instance)
        if state.persistent and not self._has_flushed:
            msg = f"factory returned {instance!r}, which is not new; make a new one"
            raise TypeError(msg)

    def assume_empty(self, parents: Mapping[str, Any]) -> None:
        """Take the other side of each one-to-one parent for empty, unless it is loaded.

        The lookup has found no row that refers to the parent. Were the other side left
        unloaded, the flush would load it to learn which row the new one replaces, see
        a rival's, and set that row's foreign key to NULL.

        Args:
            parents: The instances, by the name of their attribute on the other side.
        """
        for name, parent in parents.items():
            state: InstanceState[Any] = inspect(parent)
            prop = state.mapper.relationships.get(name)
            if prop is not None and not prop.uselist and name not in state.dict:
                set_committed_value(parent, name, None)
                self._assumed.append((parent, name))

    def restore(self, loser: Any) -> None:
        """Put all back, and take *loser* out of what it refers to; runs no SQL."""
        persistent = [state for state in self._values if state.persistent]
        # Columns first: collections read keys and positions from their members.
        for is_column in (True, False):
            for state in persistent:
                for name, value in self._values[state].items():
                    if (name in state.mapper.column_attrs) is is_column:
                        set_committed_value(state.object, name, value)
        for collection, members in self._collections:
            _make_equal(collection, members)
        for parent, name in self._assumed:
            self._session.expire(parent, [name])
        if loser is not None:
            _take_out(loser)

    def unknown(self) -> list[tuple[object, set[str]]]:
        """The columns that only the database can put back."""
        changed = self._changed_in_place.items()
        return [(state.object, names) for state, names in changed if state.persistent]

    def _note(self, session: Session, *_: object) -> None:
        self._has_flushed = True
        for instance in (*session.dirty, *session.deleted):
            state: InstanceState[Any] = inspect(instance)
            if state in self._values:
                continue
            # A changed collection's committed value is a list of its members.
            loaded = {**state.dict, **state.committed_state}
            values = self._values[state] = {}
            for prop in (*state.mapper.column_attrs, *state.mapper.relationships):
                value = loaded.get(prop.key, LoaderCallableStatus.NO_VALUE)
                if not isinstance(value, LoaderCallableStatus):
                    values[prop.key] = self._members_or_value(state, prop.key, value)
                elif prop.key in state.dict and prop.key in state.mapper.column_attrs:
                    self._changed_in_place.setdefault(state, set()).add(prop.key)

    def _members_or_value(
        self, state: InstanceState[Any], name: str, value: Any
    ) -> Any:
        prop = state.mapper.relationships.get(name)
        if prop is None or not prop.uselist:
            return value
        if name not in state.committed_state:
            value = list(collection_adapter(value))
        if name in state.dict:
            self._collections.append((state.dict[name], value))
        return value


def _make_equal(collection: Any, members: list[Any]) -> None:
    """Give a collection that the caller may hold the members it had."""
    adapter = collection_adapter(collection)
    kept = {id(member) for member in members}
    present = {id(member) for member in adapter}
    for member in list(adapter):
        if id(member) not in kept:
            adapter.remove_without_event(member)
    for member in members:
        if id(member) not in present:
            adapter.append_without_event(member)


def _take_out(loser: Any) -> None:
    """Remove *loser* from the other side of each of its relationships.

    The objects there that are in the session have been put back; those that are new
    themselves still refer to it, and would take it along into the next INSERT.
    """
    state: InstanceState[Any] = inspect(loser)
    relationships: Any = state.mapper.relationships
    for prop in relationships:
        value = state.dict.get(prop.key)
        if value is None or prop.back_populates is None:
            continue
        others = list(collection_adapter(value)) if prop.uselist else [value]
        for other in others:
            there = inspect(other).dict.get(prop.back_populates)
            if there is loser:
                set_committed_value(other, prop.back_populates, None)
            elif hasattr(there, "_sa_adapter"):
                members = [m for m in collection_adapter(there) if m is not loser]
                _make_equal(there, members)
