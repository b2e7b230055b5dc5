"""Insert with one statement that skips conflicts, and without a SAVEPOINT."""

from collections.abc import Iterator, Mapping
from logging import getLogger
from typing import Any, Final

from sqlalchemy import ClauseElement, Column, CursorResult, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_dict, set_committed_value

from .._call import Strategy
from .._databases import Failure, facts_of, skipping_insert
from .._models import T, columns_of, memory, nullable, readable, register_pending
from .._new_row import NewRow
from .obstacles import obstacles

_log: Final = getLogger("async_goc")


def strategy_for(
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
    mapper = new_row.mapper
    if new_row.has_factory:
        yield "a factory makes it"
    yield from obstacles(session, mapper, values.keys())
    if not nullable(mapper) and all(value is None for value in values.values()):
        yield "nothing is known of it"


async def insert_natively(
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
    mapper = new_row.mapper
    connection = session.connection(bind_arguments={"mapper": mapper})
    dialect = connection.dialect
    instance = new_row.make(values)
    session.add(instance)
    parameters, expressions = _given(mapper, instance)
    statement = memory(
        mapper, ("insert", dialect.name), lambda: _statement(mapper, dialect)
    )
    if expressions:
        statement = statement.values(expressions)
    row = None
    try:
        result = connection.execute(statement, parameters)
        row = result.first()
    except DBAPIError as error:
        is_undone = facts_of(dialect).error_undoes_statement
        return Failure(error, instance, is_undone=is_undone)
    finally:
        if row is None:
            session.expunge(instance)
    if row is None:
        return Failure(None, instance)
    _fill(mapper, instance, parameters, result, row)
    _register(session, instance)
    return instance


def _statement(mapper: Mapper[Any], dialect: Dialect) -> Any:
    statement = skipping_insert(dialect, mapper.local_table)
    returned = [c for key, c in columns_of(mapper).items() if key in readable(mapper)]
    return statement.returning(*returned)


def _given(
    mapper: Mapper[Any], instance: object
) -> tuple[dict[str, Any], dict[Column[Any], Any]]:
    """Return the parameters, and the SQL expressions, that a flush would send."""
    loaded: Mapping[str, Any] = instance_dict(instance)
    parameters: dict[str, Any] = dict.fromkeys(nullable(mapper))
    expressions: dict[Column[Any], Any] = {}
    for name, column in columns_of(mapper).items():
        if name not in loaded:
            continue
        value = loaded[name]
        if _is_sql(value):
            expressions[column] = value
            parameters.pop(column.key, None)
        elif value is not None or column.type.should_evaluate_none:
            parameters[column.key] = value  # Given None, a default applies.
    return parameters, expressions


def _is_sql(value: Any) -> bool:
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def _fill(
    mapper: Mapper[Any],
    instance: object,
    parameters: Mapping[str, Any],
    result: CursorResult[Any],
    row: Any,
) -> None:
    """Load what the INSERT has made up, as a flush would."""
    loaded = instance_dict(instance)
    made: Any = result.last_inserted_params()
    here = {column.key for column in result.prefetch_cols() or ()}
    for name, column in columns_of(mapper).items():
        if column.key in parameters:
            if name in readable(mapper):
                loaded.setdefault(name, None)
        elif column.key in here:
            set_committed_value(instance, name, made[column.key])
        elif column in row._mapping:  # noqa: SLF001 - public, in spite of its name
            set_committed_value(instance, name, row._mapping[column])  # noqa: SLF001
        else:
            loaded.pop(name, None)  # It is deferred.


def _register(session: Session, instance: object) -> None:
    """Make the pending instance persistent, and new in the transaction."""
    state: Any = inspect(instance)
    key = state.mapper.identity_key_from_instance(instance)
    stale = session.identity_map.get(key)
    if stale is not None:
        session.expire(stale)  # Its row had been deleted: this is another one.
    register_pending(session, instance)
    unread = readable(state.mapper) - state.dict.keys()
    if unread:
        session.expire(instance, unread)  # column properties
