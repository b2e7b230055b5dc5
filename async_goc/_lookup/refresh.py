"""Read the columns of loaded rows again, and reset nothing else."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, inspect, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.sql.selectable import ForUpdateParameter

# Why not `populate_existing`? It also resets the collections that are loaded, and
# their next access would need the database: without an `await`, that is an error. So
# only columns are expired, and the SELECT that comes next fills them in.


def refresh_columns(
    session: Session, instance: object, lock: ForUpdateParameter
) -> bool:
    """Read the loaded columns again, and lock the row; say if it is still there."""
    state: Any = inspect(instance)
    names = state.mapper.column_attrs.keys() & state.dict.keys()
    with refreshing(session, [instance], names):
        return read(session, instance, names, lock)


def read(
    session: Session,
    instance: object,
    names: Iterable[str],
    lock: ForUpdateParameter = None,
) -> bool:
    """Read these columns; say if the row is still there."""
    try:
        session.refresh(instance, sorted(names), with_for_update=lock)
    except InvalidRequestError:
        # That is what SQLAlchemy raises for a deleted row, and for much else.
        if has_row(session, instance):
            raise
        return False
    return True


def has_row(session: Session, instance: object) -> bool:
    """Whether the database has the row, whatever the session knows of it."""
    # Not the ORM's SELECT, which would want the row's parts in all of its tables.
    state: Any = inspect(instance)
    key = state.mapper.primary_key
    pairs = zip(key, state.identity, strict=True)
    statement = select(*key).where(*(column == value for column, value in pairs))
    arguments = {"mapper": state.mapper}
    return session.execute(statement, bind_arguments=arguments).first() is not None


@contextmanager
def noting_loaded(
    session: Session, expected: int = 0
) -> Generator[Callable[[object], bool]]:
    """Tell which instances have been loaded since this context began.

    *expected* is about how many.
    """
    # What the session has before can be any number of objects. If it is not, that is
    # the faster way: a listener is called for each instance.
    if len(session.identity_map) <= 2 * expected:
        before = set(session.identity_map.all_states())
        yield lambda instance: instance_state(instance) not in before
        return
    loaded: dict[int, object] = {}

    def note(_: Session, instance: object) -> None:
        loaded[id(instance)] = instance

    event.listen(session, "loaded_as_persistent", note)
    try:
        yield lambda instance: id(instance) in loaded
    finally:
        event.remove(session, "loaded_as_persistent", note)


@contextmanager
def refreshing(
    session: Session, instances: Iterable[Any], names: Iterable[str]
) -> Generator[None]:
    """Let what is loaded inside this context replace these columns, where loaded."""
    before: list[tuple[Any, dict[str, Any]]] = []
    try:
        for instance in instances:
            state: Any = inspect(instance)
            loaded = {n: state.dict[n] for n in names if n in state.dict}
            # Session.expire() without names would expire all attributes.
            if loaded and state.persistent and state.session is session:
                before.append((instance, loaded))
                session.expire(instance, loaded)
        yield
    finally:
        # A row that was not read, because it is gone or the SELECT failed, keeps its
        # old values: an expired column would need the database at its next access.
        for instance, loaded in before:
            for name in inspect(instance).expired_attributes & loaded.keys():
                set_committed_value(instance, name, loaded[name])
