"""Read a loaded row's columns anew, and reset nothing else."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.sql.selectable import ForUpdateParameter


def reread(session: Session, instance: object, lock: ForUpdateParameter) -> None:
    """Read the loaded columns anew, and nothing else: no collection is reset.

    (``populate_existing`` resets them, so that the next access needs the database.)
    """
    state: Any = inspect(instance)
    names = sorted(state.mapper.column_attrs.keys() & state.dict.keys())
    with rereading(session, [instance], names):
        session.refresh(instance, names, with_for_update=lock)


@contextmanager
def rereading(
    session: Session, instances: Iterable[Any], names: Iterable[str]
) -> Generator[None]:
    """Let what is loaded in here fill in these columns anew, where they are loaded.

    Those that it does not are as they were, at the end.
    """
    before: list[tuple[Any, dict[str, Any]]] = []
    try:
        for instance in instances:
            state: Any = inspect(instance)
            loaded = {n: state.dict[n] for n in names if n in state.dict}
            # (To expire no names would be to expire all.)
            if loaded and state.persistent and state.session is session:
                before.append((instance, loaded))
                session.expire(instance, loaded)
        yield
    finally:
        for instance, loaded in before:
            for name in inspect(instance).expired_attributes & loaded.keys():
                set_committed_value(instance, name, loaded[name])
