"""Say where a direct lane is certain to give what a session would."""

from collections.abc import Collection, Iterator
from logging import INFO
from typing import Any, Final

from sqlalchemy import Engine, StaticPool, Table
from sqlalchemy.ext.asyncio import AsyncSession, async_session
from sqlalchemy.orm import Mapper, Session

from .._call import routes
from .._databases import lane_of, options_of
from .._lookup import Plan, plan_for
from .._models import (
    Ears,
    columns_of,
    default_field,
    level_on_connect,
    may_have_listeners,
    readable,
    remembered,
)

# What is heard of where a statement is executed by SQLAlchemy, and only there.
_ENGINE_EVENTS: Final = (
    *("before_execute", "after_execute", "before_cursor_execute"),
    *("after_cursor_execute", "engine_connect", "begin", "commit", "rollback"),
)
_DIALECT_EVENTS: Final = (
    *("do_execute", "do_execute_no_params", "do_executemany", "do_setinputsizes"),
    "handle_error",
)
_SESSION_EVENTS: Final = (
    *("do_orm_execute", "after_begin", "after_transaction_create"),
    *("after_transaction_end", "before_commit", "after_commit", "before_attach"),
    *("after_attach", "loaded_as_persistent", "persistent_to_detached"),
    *("transient_to_pending", "pending_to_persistent", "before_flush"),
    *("after_flush", "after_flush_postexec"),
)
_CLASS_EVENTS: Final = ("load", "refresh")
# Relationships of these kinds are not touched by a SELECT of the model.
_LAZY: Final = ("select", True, "raise", "raise_on_sql", "dynamic", "write_only")
_LIBRARIES: Final = ("sqlalchemy", "sqlmodel", "builtins", "typing")


class Judge:
    """Says, for one model and one session, what keeps a call from a direct lane."""

    def __init__(self, session: Session, mapper: Mapper[Any]) -> None:
        # What chooses for each statement is not asked once for all.
        self._bind: Any = None if routes(session) else session.get_bind(mapper)
        self._lasting = next(_lasting(session, self._bind, mapper), None)
        if self._lasting is None:
            engine: Any = self._bind
            self._engines_ears = Ears(
                (engine.dispatch, _ENGINE_EVENTS),
                (engine.dialect.dispatch, _DIALECT_EVENTS),
            )
            # Nobody else knows the session, and so listeners are added to its class.
            self._ears = Ears(
                (mapper.class_manager.dispatch, _CLASS_EVENTS),
                of_class=(session.dispatch, _SESSION_EVENTS),
            )

    @property
    def engine(self) -> Engine:
        """Where the session reads and writes the model; there is no obstacle."""
        engine: Engine = self._bind
        return engine

    def obstacle(self) -> str | None:
        """Return why the call needs a session, if it does."""
        if self._lasting is not None:
            return self._lasting
        if self._bind.get_execution_options():
            return "the engine has execution options"
        if self._bind.logger.isEnabledFor(INFO):
            return "the engine logs its statements"
        # Listeners may be added and removed at any time, as options may be.
        heard = self._ears.heard()
        if heard is None and may_have_listeners(self._bind):
            heard = self._engines_ears.heard()
        return heard


def plain_plan(mapper: Mapper[Any], names: tuple[str, ...]) -> Plan[Any] | None:
    """Return the plan for plain values of these names, if all of it is so plain."""
    if not readable(mapper) >= set(names) <= columns_of(mapper).keys():
        return None
    plan = plan_for(mapper.class_, dict.fromkeys(names, ""))
    is_more = plan.expressions or plan.parents or plan.has_overlap
    return plan if plan.is_covered and not is_more else None


def are_apart(plan: Plan[Any], default_names: Collection[object]) -> bool:
    """Whether these defaults are legal, and none can contradict the lookup."""
    # A session refuses them on a hit, too.
    fields = [
        default_field(plan.mapper, name) if isinstance(name, str) else None
        for name in default_names
    ]
    return all(f is not None and plan.columns.isdisjoint(f.columns) for f in fields)


def _lasting(session: Session, bind: Any, mapper: Mapper[Any]) -> Iterator[str]:
    """Yield the reasons that stay as long as the session."""
    if bind is None:
        yield "the session chooses where each statement goes"
    elif type(bind) is not Engine:
        yield "the session is bound to a connection, or to an engine with options"
    else:
        yield from _of_engine(bind)
        yield from _of_session(session)
        yield from _of_model(mapper)


def _of_engine(engine: Engine) -> Iterator[str]:
    if lane_of(engine) is None:
        yield f"there is no direct lane for this {engine.dialect.driver} engine"
    if isinstance(engine.pool, StaticPool):
        yield "all sessions share one connection"
    level = level_on_connect(engine.dialect)
    if level not in {None, getattr(engine.dialect, "default_isolation_level", None)}:
        yield "the engine has an isolation level of its own"


def _of_session(session: Session) -> Iterator[str]:
    if options_of(session) or session.twophase or not session.autobegin:
        yield "the session has options of its own"
    asynchronous = async_session(session)
    for each, base in ((session, Session), (asynchronous, AsyncSession)):
        if each is not None and _has_hooks(type(each), base):
            yield "the session's class has methods of its own"


def _has_hooks(class_: type[Any], base: type[Any]) -> bool:
    return any(
        not name.startswith("__") and hasattr(base, name)
        for each in class_.__mro__
        if each.__module__.partition(".")[0] not in _LIBRARIES
        for name in vars(each)
    )


@remembered
def _of_model(mapper: Mapper[Any]) -> list[str]:
    table: Any = mapper.local_table
    is_table = isinstance(table, Table) and mapper.persist_selectable is table
    columns, loaded = columns_of(mapper), readable(mapper)
    keys = {mapper.get_property_by_column(column).key for column in mapper.primary_key}
    reasons = {
        "its rows are not those of one table": not is_table
        or set(mapper.primary_key) != set(table.primary_key),
        "it is part of an inheritance": mapper.inherits is not None
        or mapper.polymorphic_on is not None
        or len(list(mapper.self_and_descendants)) > 1,
        "it has columns that are SQL": columns.keys()
        != set(mapper.column_attrs.keys()),
        "its primary key is deferred": not keys <= loaded,
        "a relationship is loaded with it": any(
            prop.lazy not in _LAZY for prop in mapper.relationships
        ),
    }
    return [reason for reason, applies in reasons.items() if applies]
