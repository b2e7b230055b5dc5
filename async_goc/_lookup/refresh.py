"""Read the columns of loaded rows again, and reset nothing else."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.selectable import ForUpdateParameter

# Why not `populate_existing`? It also resets the collections that are loaded, and
# their next access would need the database: without an `await`, that is an error. So
# only columns are expired, and the SELECT that comes next fills them in.


def refresh_columns(
    session: Session, instance: object, lock: ForUpdateParameter
) -> None:
    """Read the loaded columns again, and lock the row if *lock* says so."""
    state: Any = inspect(instance)
    names = sorted(state.mapper.column_attrs.keys() & state.dict.keys())
    with refreshing(session, [instance], names):
        session.refresh(instance, names, with_for_update=lock)


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
