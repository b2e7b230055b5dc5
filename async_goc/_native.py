"""Insert with one statement that skips conflicts, and without a SAVEPOINT."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from logging import getLogger
from typing import Any, Final, cast

from sqlalchemy import Column, Insert, Table, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session, make_transient_to_detached
from sqlalchemy.orm.attributes import instance_dict, set_committed_value

from ._completion import readable
from ._conflict import Failure
from ._criteria import SQL
from ._defaults import NewRow, has_constructor
from ._fields import T, memory
from ._policy import Strategy

_log: Final = getLogger("async_goc")

# Without a conflict target: that would name one constraint, and a rival who takes two
# unique values at once would fail the INSERT by the other (seen in 10 of 3,200 races
# on PostgreSQL). What is skipped for another reason than the lookup's row, the
# SAVEPOINT will tell.
_SKIPPING: Final[Mapping[str, Callable[[Table], Insert]]] = {
    "postgresql": lambda table: postgresql.insert(table).on_conflict_do_nothing(),
    "sqlite": lambda table: sqlite.insert(table).on_conflict_do_nothing(),
}
# An error undoes the statement only; elsewhere it ends the transaction.
_UNDOES_STATEMENTS: Final = frozenset({"sqlite"})

# What a flush would tell.
_MAPPER_EVENTS: Final = ("before_insert", "after_insert")
_SESSION_EVENTS: Final = (
    *("before_flush", "after_flush", "after_flush_postexec"),
    *("transient_to_pending", "pending_to_persistent"),
)


def fitting(
    strategy: Strategy,
    session: AsyncSession,
    new_row: NewRow[Any],
    values: Mapping[str, Any],
) -> Strategy:
    """Return *strategy*, or ``"savepoint"`` where the row needs the unit of work."""
    if strategy == "savepoint":
        return strategy
    obstacle = next(_obstacles(session.sync_session, new_row, values), None)
    if obstacle is None:
        return strategy
    _log.debug(
        "%s is inserted by the unit of work, inside a SAVEPOINT: %s",
        new_row.mapper.class_.__name__,
        obstacle,
    )
    return "savepoint"


def _obstacles(
    session: Session, new_row: NewRow[Any], values: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the reasons why only the unit of work can insert the row."""
    mapper = new_row.mapper
    dialect = session.get_bind(mapper).dialect
    if dialect.name not in _SKIPPING or not dialect.insert_returning:
        yield f"there is no native insert for {dialect.name} {dialect.driver}"
    if new_row.has_factory:
        yield "a factory makes it"
    if not values:
        yield "nothing is known of it"
    if mapper.relationships and not values.keys() <= _columns(mapper).keys():
        yield "relationships may be populated"
    yield from memory(mapper, "obstacles", lambda: _model_obstacles(mapper))
    # Listeners come and go.
    yield from _heard(mapper.dispatch, _MAPPER_EVENTS)
    yield from _heard(session.dispatch, _SESSION_EVENTS)
    # Mutable types and composites listen to this one.
    yield from _heard(mapper.class_manager.dispatch, ["refresh_flush"])


def _model_obstacles(mapper: Mapper[Any]) -> list[str]:
    found: list[str] = []
    if has_constructor(mapper):
        found.append("its class has a constructor of its own")
    if not isinstance(mapper.local_table, Table) or len(mapper.tables) > 1:
        found.append("its row spans several tables")
    if mapper.version_id_col is not None:
        found.append("it has a version counter")
    return found


def _heard(dispatch: Any, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if getattr(dispatch, name):
            yield f"somebody listens to {name}"


async def insert(
    session: AsyncSession, new_row: NewRow[T], values: Mapping[str, Any]
) -> T | Failure:
    """Insert the row, or return the database's error, if it has one.

    The session must be settled, and the row must fit. An error ends a PostgreSQL
    transaction, as that of any statement does.
    """
    return await session.run_sync(_insert, new_row, values)


def _insert(
    session: Session, new_row: NewRow[T], values: Mapping[str, Any]
) -> T | Failure:
    instance = new_row.make(values)
    mapper = new_row.mapper
    connection = session.connection(bind_arguments={"mapper": mapper})
    name = connection.dialect.name
    parameters, expressions = _given(mapper, instance)
    statement = memory(mapper, ("insert", name), lambda: _statement(mapper, name))
    if expressions:
        statement = statement.values(expressions)
    try:
        row = connection.execute(statement, parameters).first()
    except DBAPIError as error:
        return Failure(error, instance, is_undone=name in _UNDOES_STATEMENTS)
    if row is None:
        return Failure(None, instance)
    _adopt(session, mapper, instance, row)
    return instance


def _statement(mapper: Mapper[Any], name: str) -> Any:
    statement: Any = _SKIPPING[name](cast("Table", mapper.local_table))
    return statement.returning(*_returned(mapper).values())


def _columns(mapper: Mapper[Any]) -> dict[str, Column[Any]]:
    """The table's columns, by attribute name."""
    return memory(
        mapper,
        "columns",
        lambda: {
            prop.key: column
            for prop in mapper.column_attrs
            if isinstance(column := prop.columns[0], Column)
        },
    )


def _returned(mapper: Mapper[Any]) -> dict[str, Column[Any]]:
    """Those of them that are not deferred."""
    return memory(
        mapper,
        "returned",
        lambda: {
            name: column
            for name, column in _columns(mapper).items()
            if name in readable(mapper)
        },
    )


def _given(
    mapper: Mapper[Any], instance: object
) -> tuple[dict[str, Any], dict[Column[Any], Any]]:
    """Return the parameters, and the SQL expressions, that a flush would send."""
    loaded: Mapping[str, Any] = instance_dict(instance)
    parameters: dict[str, Any] = {}
    expressions: dict[Column[Any], Any] = {}
    for name, column in _columns(mapper).items():
        if name not in loaded:
            continue
        value = loaded[name]
        if isinstance(value, SQL):
            expressions[column] = value
        elif value is not None or column.type.should_evaluate_none:
            parameters[column.key] = value  # Given None, a default applies.
    return parameters, expressions


def _adopt(
    session: Session, mapper: Mapper[Any], instance: Any, row: Sequence[Any]
) -> None:
    """Make *instance* what a flush would have made it."""
    state: Any = inspect(instance)
    for name, value in zip(_returned(mapper), row, strict=True):
        if state.dict.get(name) is None or isinstance(state.dict[name], SQL):
            set_committed_value(instance, name, value)
    make_transient_to_detached(instance)
    # That has expired all that is not loaded, relationships and deferred columns, too.
    state.expired_attributes.intersection_update(readable(state.mapper))
    stale = session.identity_map.get(state.key)
    if stale is not None:
        session.expunge(stale)  # Its row had been deleted: this is another one.
    session.add(instance)
    # A rollback makes what is new in a transaction transient again. There is no public
    # way to say that it is.
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    transaction._new[state] = True  # noqa: SLF001
