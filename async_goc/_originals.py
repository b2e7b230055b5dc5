"""Put the caller's objects back to what they were before a guard."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import InstanceState, RelationshipProperty, Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.base import NEVER_SET, NO_VALUE
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
        # {state: {attribute: value, or the members of a collection}}
        self._values: dict[InstanceState[Any], dict[str, Any]] = {}
        # The collections themselves, which the caller may hold, and their members.
        # An adapter refers to its collection weakly, hence the collections.
        self._collections: list[tuple[Any, list[Any]]] = []

    @contextmanager
    def noted(self) -> Generator[None, None, None]:
        """Note the values of every changed object, before each flush in here."""
        event.listen(self._session, "before_flush", self._note)
        try:
            yield
        finally:
            event.remove(self._session, "before_flush", self._note)

    def restore(self) -> None:
        """Put all back; runs no SQL."""
        for state, values in self._values.items():
            if state.persistent:
                for key, value in values.items():
                    set_committed_value(state.object, key, value)
        for collection, members in self._collections:
            kept = {id(member) for member in members}
            adapter = collection_adapter(collection)
            for member in list(adapter):
                if id(member) not in kept:
                    adapter.remove_without_event(member)

    def _note(self, session: Session, *_: object) -> None:
        for instance in session.dirty:
            state: InstanceState[Any] = inspect(instance)
            if state in self._values:
                continue
            # A changed collection's committed value is a list of its members.
            loaded = {**state.dict, **state.committed_state}
            values = self._values[state] = {}
            for prop in (*state.mapper.column_attrs, *state.mapper.relationships):
                value = loaded.get(prop.key, NO_VALUE)
                if value is NO_VALUE or value is NEVER_SET:
                    continue  # It was not loaded.
                if isinstance(prop, RelationshipProperty) and prop.uselist:
                    collection = state.dict.get(prop.key)
                    if prop.key not in state.committed_state:
                        value = list(collection_adapter(value))
                    if collection is not None:
                        self._collections.append((collection, value))
                values[prop.key] = value
