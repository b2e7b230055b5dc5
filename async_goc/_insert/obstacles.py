"""Say whether a plain INSERT makes of a model's rows what a flush would."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from sqlalchemy import ForeignKeyConstraint, Table
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.schema import ColumnCollectionConstraint

from .._databases import inserts_natively
from .._models import can_register, columns_of, memory
from .._new_row import has_constructor
from .originals import Originals

# What a flush would tell. (A session can be added to without one: that is told, too.)
_MAPPER_EVENTS: Final = ("before_insert", "after_insert")
_SESSION_EVENTS: Final = ("before_flush", "after_flush", "after_flush_postexec")


def obstacles(
    session: Session, mapper: Mapper[Any], names: Collection[str]
) -> Iterator[str]:
    """Yield the reasons why only the unit of work can insert rows of *names*.

    Args:
        session: The session.
        mapper: The model's mapper.
        names: What the rows are given, by attribute name.
    """
    dialect = session.get_bind(mapper).dialect
    if not inserts_natively(dialect):
        yield f"there is no native insert for {dialect.name} {dialect.driver}"
    yield from memory(mapper, "obstacles", lambda: list(_of_model(mapper)))
    if mapper.relationships and not columns_of(mapper).keys() >= set(names):
        yield "relationships may be populated"
    # Listeners come and go.
    yield from _listeners(session, mapper)
    manager = mapper.class_manager
    # Mutable types and composites listen to this one.
    yield from _heard(manager.dispatch, ["refresh_flush"])
    # Validators do, and may do anything: fill a collection, say.
    for name in columns_of(mapper):
        yield from _heard(manager[name].dispatch, ["set"])
    if not can_register(session):
        yield "SQLAlchemy cannot be told of a row that it has not flushed"
    if type(session).get_bind is not Session.get_bind:
        yield "the session chooses its bind, maybe by whether it is flushing"


def is_watched(session: Session, mapper: Mapper[Any]) -> bool:
    """Whether anybody who hears of a new row may make others, which refer to it."""
    return next(_listeners(session, mapper), None) is not None


def _listeners(session: Session, mapper: Mapper[Any]) -> Iterator[str]:
    yield from _heard(mapper.dispatch, _MAPPER_EVENTS)
    yield from _heard(session.dispatch, _SESSION_EVENTS)


def _heard(dispatch: Any, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if not all(map(_is_ours, getattr(dispatch, name))):
            yield f"somebody listens to {name}"


def _is_ours(listener: object) -> bool:
    return isinstance(getattr(listener, "__self__", None), Originals)


def _of_model(mapper: Mapper[Any]) -> Iterator[str]:
    if has_constructor(mapper):
        yield "its class has a constructor of its own"
    table: Any = mapper.local_table
    if not isinstance(table, Table) or len(mapper.tables) > 1:
        yield "its row spans several tables"
    elif any(map(_is_deferrable, table.constraints)):
        yield "a deferrable constraint cannot tell a conflict in time"
    if mapper.version_id_col is not None:
        yield "it has a version counter"


def _is_deferrable(constraint: Any) -> bool:
    """Whether PostgreSQL refuses ON CONFLICT for it."""
    is_index = isinstance(constraint, ColumnCollectionConstraint)
    is_other = isinstance(constraint, ForeignKeyConstraint)
    return is_index and not is_other and bool(constraint.deferrable)
