"""Say whether a plain INSERT makes of a model's rows what a flush would make."""

from collections.abc import (
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set as AbstractSet,
)
from logging import getLogger
from typing import Any, Final

from sqlalchemy import ForeignKeyConstraint, Table
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.sql.schema import ColumnCollectionConstraint

from .._call import Strategy, routes
from .._databases import facts_of, inserts_natively
from .._lookup import has_limit
from .._models import (
    SQL,
    Ears,
    SessionEars,
    can_register,
    columns_of,
    nullable,
    remembered,
)
from .._new_row import (
    NewRow,
    fills_relationship,
    has_generated_constructor,
    sets_parent,
)
from .parents import obstacles_to_parents, parents_among
from .sent import has_contextual_default

_log: Final = getLogger("async_goc")

# The events that a flush sends. Those of objects that become pending or persistent are
# not among them, because a native INSERT sends those as well.
_MAPPER_EVENTS: Final = ("before_insert", "after_insert")
_SESSION_EVENTS: Final = ("before_flush", "after_flush", "after_flush_postexec")
_session_ears: Final = SessionEars(*_SESSION_EVENTS)
# Those of the class and its attributes.
_CLASS_EVENTS: Final = ("init", "refresh_flush")
_ATTRIBUTE_EVENTS: Final = ("set",)


def strategy_for(
    strategy: Strategy,
    session: AsyncSession,
    new_row: NewRow[Any],
    values: Mapping[str, Any],
) -> Strategy:
    """Return *strategy*, or ``"savepoint"`` where the row needs the unit of work."""
    if strategy == "savepoint":
        return strategy
    mapper = new_row.mapper
    own, parents = session.sync_session, parents_among(mapper, values.keys())
    names = values.keys() - parents if parents else values.keys()
    obstacle = next(_obstacles(own, mapper, names), None)
    if parents and obstacle is None:
        obstacle = next(obstacles_to_parents(own, mapper, values), None)
        obstacle = obstacle or _hearer_of_init(mapper)
    if new_row.has_factory:
        obstacle = "a factory makes it"
    elif has_limit(new_row.lookup, own):
        obstacle = "it may have to be given up, and nothing else with it"
    elif not nullable(mapper) and all(value is None for value in values.values()):
        obstacle = "nothing is known of it"
    if obstacle is None:
        return strategy
    text = "%s is inserted by the unit of work, inside a SAVEPOINT: %s"
    _log.debug(text, mapper.class_.__name__, obstacle)
    return "savepoint"


def obstacle_to_many(
    session: Session,
    mapper: Mapper[Any],
    rows: Sequence[Mapping[str, Any]],
    key: Collection[str],
) -> str | None:
    """Return why only the unit of work can insert these rows, if that is so.

    There is no SQL in their *key*.
    """
    dialect = session.get_bind(mapper).dialect
    if not facts_of(dialect).skips_conflicts:
        return f"no INSERT for {dialect.name} skips conflicts"
    names = set[str]().union(*rows)
    for name in names.difference(key):
        kinds: set[type[object]] = {type(row.get(name)) for row in rows}
        if any(issubclass(kind, SQL) for kind in kinds):
            return "SQL expressions are among the values"
    if not names <= columns_of(mapper).keys():
        return "more than columns is given"
    if has_contextual_default(mapper):
        return "a default is made of the row's other values"
    # Rows are loaded from the INSERT, and so the class is not called for them; or it is
    # called for the defaults of its constructor, and the instance dropped.
    return _hearer_of_init(mapper) or next(_obstacles(session, mapper, names), None)


def heard_events(
    session: Session, mapper: Mapper[Any]
) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield the events to which listeners could be such a reason, the session's first.

    What else could be one stays as long as the session.
    """
    yield session.dispatch, _SESSION_EVENTS
    yield from _events_of(mapper)


def _events_of(mapper: Mapper[Any]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    manager = mapper.class_manager
    yield mapper.dispatch, _MAPPER_EVENTS
    yield manager.dispatch, _CLASS_EVENTS
    for name in columns_of(mapper):
        yield manager[name].dispatch, _ATTRIBUTE_EVENTS


def is_watched(session: Session, mapper: Mapper[Any]) -> bool:
    """Whether a listener could create rows that reference the new one."""
    heard = _heard(mapper.dispatch, _MAPPER_EVENTS)
    return bool(heard or _heard(session.dispatch, _SESSION_EVENTS))


class _Listened:
    """The listeners to a model that are such reasons, until one comes or goes."""

    def __init__(self, mapper: Mapper[Any]) -> None:
        self._events = [*_events_of(mapper)]
        self._ears = Ears(*self._events)
        self._reasons: list[str] = []

    def reasons(self) -> list[str]:
        if self._ears.have_changed():
            # A flush tells mutable types and composites of refreshed values; and a
            # validator, which listens to `set`, may do anything, such as fill a
            # collection. SQLAlchemy itself listens to `init`.
            self._reasons = [
                reason
                for dispatch, names in self._events
                for reason in _heard(dispatch, [n for n in names if n != "init"])
            ]
        return self._reasons


@remembered
def _listened(mapper: Mapper[Any]) -> _Listened:
    return _Listened(mapper)


def _obstacles(
    session: Session, mapper: Mapper[Any], names: AbstractSet[str]
) -> Iterator[str]:
    """Yield the reasons why only the unit of work can insert rows of *names*."""
    dialect = session.get_bind(mapper).dialect
    if not inserts_natively(dialect):
        yield f"there is no native insert for {dialect.name} {dialect.driver}"
    yield from _of_model(mapper)
    if not columns_of(mapper).keys() >= names and mapper.relationships:
        yield "relationships may be populated"
    yield from _listened(mapper).reasons()
    if _session_ears.hear(session):
        yield from _heard(session.dispatch, _SESSION_EVENTS)
    if not can_register(session):
        yield "SQLAlchemy cannot be told of a row that it has not flushed"
    if routes(session):
        yield "the session chooses its bind, maybe by whether it is flushing"


@remembered
def _of_model(mapper: Mapper[Any]) -> list[str]:
    table: Any = mapper.local_table
    kinds: Any = getattr(mapper.polymorphic_on, "table", None)
    is_spread = not isinstance(table, Table) or len(mapper.tables) > 1
    reasons = {
        "its class has a constructor of its own": not has_generated_constructor(mapper),
        "its constructor sets an absent parent": sets_parent(mapper),
        "its constructor fills a relationship": fills_relationship(mapper),
        "its row spans several tables": is_spread,
        "a deferrable constraint cannot tell a conflict in time": not is_spread
        and any(map(_is_deferrable, table.constraints)),
        "it has a version counter": mapper.version_id_col is not None,
        # An expression of the row's own columns has no table, and is returned.
        "another table says of which class its rows are": kinds not in {None, table},
        # SQLAlchemy writes such a row, and does not load it.
        "nothing says of which class its rows are": mapper.polymorphic_on is not None
        and mapper.polymorphic_identity is None,
    }
    return [reason for reason, applies in reasons.items() if applies]


def _is_deferrable(constraint: Any) -> bool:
    """Whether PostgreSQL refuses ON CONFLICT for it."""
    is_index = isinstance(constraint, ColumnCollectionConstraint)
    is_other = isinstance(constraint, ForeignKeyConstraint)
    return is_index and not is_other and bool(constraint.deferrable)


def _hearer_of_init(mapper: Mapper[Any]) -> str | None:
    """Return that somebody listens to `init`, as SQLAlchemy does in each class."""
    listeners = mapper.class_manager.dispatch.init
    own = Mapper.__module__
    is_heard = any(getattr(each, "__module__", None) != own for each in listeners)
    return "somebody listens to init" if is_heard else None


def _heard(dispatch: Any, names: Iterable[str]) -> list[str]:
    return [f"somebody listens to {name}" for name in names if getattr(dispatch, name)]


def obstacles_to_native(session: Session, mapper: Mapper[Any]) -> list[str]:
    """Return why no row of the model is inserted natively, whatever its values."""
    return list(_obstacles(session, mapper, frozenset()))
