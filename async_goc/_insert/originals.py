"""Put the caller's objects back to what they were before a guard."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import event, inspect, orm
from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.base import LoaderCallableStatus
from sqlalchemy.orm.collections import collection_adapter

State = orm.InstanceState[Any]
Relationship = orm.RelationshipProperty[Any]

_KEY: Final = "async_goc.guards"


# When a SAVEPOINT is rolled back, SQLAlchemy expires each object that was modified
# inside it, and the next access to one of its attributes needs the database: under
# asyncio, an error. A new row modifies its parent just by being appended to a loaded
# collection of it, so after a lost race the caller could not read the parent any more.
#
# Making the instance before the SAVEPOINT is no way out. A factory may add to the
# session whatever it likes, so it has to run inside. And if the constructor puts the
# new row into a collection of its parent's, the flush of begin_nested() warns that it
# is not in the session. Refreshing what has expired would take a SELECT for each
# object.
#
# But all that the caller had pending has been flushed before the guard. So an object's
# committed values are both what the caller saw and what the rollback returns the
# database to, and SQLAlchemy keeps them until the next flush. They are noted before
# each flush inside the guard, and put back as committed values, without SQL. More than
# that is needed in four cases:
#
#  - The caller may hold the collection itself. So its members are put back into that
#    one: what is appended to a collection that has been replaced would be lost.
#  - A value that was changed in place is not known any more, and is read again.
#  - The flush of a one-to-one child loads the other side of the relationship, to learn
#    which row the new one replaces. It would find a rival's row, and set its foreign
#    key to NULL. So that side is taken for empty, unless it is loaded.
#  - The loser is taken out of the objects that it refers to. Those that are new
#    themselves would otherwise take it along into the next INSERT.
#
# They are noted when the flush begins a transaction of its own, before its first
# statement. A listener to ``before_flush`` would have to come after the caller's, which
# may change objects; so each guard would have to add one to its session, and remove it,
# and that takes longer than all the rest of a guard.


class Originals:
    """The values of the objects that a guard has changed, from before it did."""

    def __init__(self, session: orm.Session) -> None:
        self._session = session
        # Everything that has been new since the guard began.
        self._new: set[State] = set()
        # {state: {attribute: value, or the members of a collection}}
        self._values: dict[State, dict[str, Any]] = {}
        # {state: columns whose value was changed in place, so that it is not known}
        self._changed_in_place: dict[State, set[str]] = defaultdict(set)
        # (state, attribute, the collection that the caller may hold)
        self._held: list[tuple[State, str, Any]] = []
        # (parent, the attribute that has been assumed to be empty)
        self._assumed: list[tuple[Any, str]] = []
        # The instances that the guard inserts.
        self._losers: list[Any] = []
        # What the guard failed by, before its SAVEPOINT met the consequences.
        self.reason: BaseException | None = None

    def __enter__(self) -> None:
        self._session.info.setdefault(_KEY, []).append(self)

    def __exit__(self, _: object, error: BaseException | None, _tb: object) -> None:
        self._session.info[_KEY].remove(self)
        self.reason = error
        if error is not None:
            # There may be changes that have not been flushed.
            self.note()

    def add(self, instance: object) -> None:
        """Take *instance* out of what it refers to if the guard fails."""
        self._losers.append(instance)
        state: State = instance_state(instance)
        if state.key is not None and state.persistent and state not in self._new:
            kind = type(instance).__name__
            msg = f"factory returned a {kind} that is not new; make a new one"
            raise TypeError(msg)

    def assume_empty(self, parents: Iterable[tuple[Any, str]]) -> None:
        """Take the other side of each one-to-one parent for empty, unless loaded."""
        # It is empty as far as this transaction knows: the lookup has found no row that
        # refers to the parent.
        for parent, name in parents:
            state: State = inspect(parent)
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
        """Return the objects, and columns, that only the database can put back."""
        changed = self._changed_in_place.items()
        return [(state.object, names) for state, names in changed if state.persistent]

    def note(self) -> None:
        """Note the values of what is about to be flushed."""
        session = self._session
        new = [*map(instance_state, session.new)]
        self._new.update(new)
        # Most often, nothing but the new row is about to be written.
        dirty = session.dirty if session.identity_map.check_modified() else ()
        for instance in (*dirty, *session.deleted, *_children(new)):
            state: State = instance_state(instance)
            is_known = state in self._values
            values = self._values.setdefault(state, {})
            # The values before the change. That of a collection is a list.
            loaded = {**state.dict, **state.committed_state}
            for prop in state.mapper.column_attrs:
                if _is_lost(state, prop.key, loaded):
                    self._changed_in_place[state].add(prop.key)
                elif not is_known and _has_value(loaded, prop.key):
                    values[prop.key] = loaded[prop.key]
            for other in () if is_known else state.mapper.relationships:
                if _has_value(loaded, other.key) and not is_query(other):
                    values[other.key] = self._noted(state, other, loaded[other.key])

    def _noted(self, state: State, prop: Relationship, value: Any) -> Any:
        """Return a relationship's value, or a collection's members, and note that."""
        if not prop.uselist:
            return value
        if prop.key in state.dict:
            self._held.append((state, prop.key, state.dict[prop.key]))
        is_changed = prop.key in state.committed_state
        return value if is_changed else list(collection_adapter(value))


@event.listens_for(orm.Session, "after_transaction_create")
def _on_flush(session: orm.Session, transaction: orm.SessionTransaction) -> None:
    for originals in session.info.get(_KEY, ()):
        if transaction.origin is orm.SessionTransactionOrigin.SUBTRANSACTION:
            originals.note()


def is_query(prop: Relationship) -> bool:
    """Whether it holds no objects, but a way to ask for them."""
    return prop.lazy in {"dynamic", "write_only"}


def _has_value(loaded: dict[str, Any], name: str) -> bool:
    return name in loaded and not isinstance(loaded[name], LoaderCallableStatus)


def _is_lost(state: State, name: str, loaded: dict[str, Any]) -> bool:
    """Whether a column could be read, and its old value is not to be had here."""
    if name not in loaded:
        # If it was never set, it reads as None; deferred or expired, it was unreadable.
        is_deferred = name in state.callables or state.mapper.attrs[name].deferred
        return not is_deferred and name not in state.expired_attributes
    if name not in state.dict or name not in state.committed_state:
        return False
    # A mutable value that was replaced no longer knows which object it belongs to.
    return not _has_value(loaded, name) or isinstance(loaded[name], MutableBase)


def _children(states: Iterable[State]) -> list[Any]:
    """Return the members of loaded collections that are in the database already."""
    # The unit of work writes their foreign keys without marking them as changed before.
    return [
        member
        for state in states
        for prop in state.mapper.relationships
        if prop.key in state.dict and prop.uselist and not is_query(prop)
        for member in collection_adapter(state.dict[prop.key])
        if inspect(member).persistent
    ]


def _refill(state: State, name: str, held: Any) -> None:
    """Make the collection that the caller may hold the attribute's again."""
    fresh = state.dict[name]
    kinds: tuple[Any, ...] = (list, set, dict)
    plain: Any = next((kind for kind in kinds if isinstance(held, kind)), None)
    if plain is None:
        return  # It is of a class of the caller's; the attribute has a new one.
    # The instrumented methods would record all of this as changes.
    plain.clear(held)
    fill = getattr(plain, "extend", None) or plain.update
    fill(held, fresh)
    collection_adapter(held).invalidated = False
    state.dict[name] = held


def _take_out(loser: Any) -> None:
    """Remove *loser* from the other side of each of its relationships."""
    # The objects there that were in the session before have been put back already.
    state: Any = inspect(loser)
    for prop in state.mapper.relationships:
        value = state.dict.get(prop.key)
        if value is None or prop.back_populates is None or is_query(prop):
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
