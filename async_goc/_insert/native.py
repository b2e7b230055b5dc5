"""Insert a row by one statement that skips conflicts, without a SAVEPOINT."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ClauseElement, Column, CursorResult
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, ResourceClosedError
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.attributes import instance_dict, set_committed_value
from sqlalchemy.util import greenlet_spawn

from .._call import Call
from .._databases import Failure, facts_of, native_insert
from .._models import (
    SessionEars,
    T,
    columns_of,
    may_skip_pending,
    nullable,
    readable,
    register_inserted,
    register_pending,
    remembered,
)
from .._new_row import NewRow
from .parents import as_columns

# What an INSERT returns; none: all that a SELECT would load.
Columns = tuple[Column[Any], ...]
# The events on an object's way from a new one to a persistent one.
_on_the_way: Final = SessionEars(
    *("before_attach", "after_attach", "transient_to_pending", "pending_to_persistent")
)
# To be looked for by hash: values of the application's own may not compare with it.
_NULL: Final = frozenset({None})


def insert_natively(
    call: Call, new_row: NewRow[T], values: Mapping[str, Any]
) -> Awaitable[T | Failure]:
    """Insert the row, or return the database's error, if it has one."""
    # The session must be settled, and the row must fit. Like that of any statement, an
    # error of this one ends a PostgreSQL transaction.
    return greenlet_spawn(_insert, call.session.sync_session, new_row, values)


def returning_insert(
    mapper: Mapper[Any], dialect: Dialect, returned: Columns = ()
) -> Any:
    """Return an INSERT that skips conflicts, and returns what a SELECT would load.

    With *returned*, it returns these columns instead.
    """
    if returned:
        return native_insert(dialect, mapper.local_table).returning(*returned)
    known = _inserting(mapper)
    statement = known.inserts.get(dialect.name)
    if statement is None:
        loaded: list[Any] = [known.columns[name] for name in known.returned]
        kind = mapper.polymorphic_on
        if kind is not None and kind not in known.columns.values():
            loaded.append(kind)  # The class of each instance depends on it.
        statement = native_insert(dialect, mapper.local_table).returning(*loaded)
        known.inserts[dialect.name] = statement
    return statement


@dataclass(frozen=True, slots=True)
class _Inserting:
    """What an INSERT of one row has to know of a model."""

    # By attribute name.
    columns: dict[str, Column[Any]]
    # The columns that come first in what the INSERT returns.
    returned: tuple[str, ...]
    # What a plain SELECT loads, which may be more.
    readable: frozenset[str]
    # The parameters of a row that has no values.
    empty: dict[str, None]
    # The statements, by dialect.
    inserts: dict[str, Any]


@remembered
def _inserting(mapper: Mapper[Any]) -> _Inserting:
    columns, loaded = columns_of(mapper), readable(mapper)
    returned = tuple(name for name in columns if name in loaded)
    return _Inserting(columns, returned, loaded, dict.fromkeys(nullable(mapper)), {})


# Why not the ORM's own INSERT … RETURNING, as `bulk` has it for many rows? It was
# measured: one row took three times as long, and 1.4 times by a statement that loads
# the row into a new object. It would not call the class either, which can tell how its
# instances are made. So the class makes the instance, the session is told of it as by
# `add()`, and what the statement returns is put into it, as a flush does.


def _insert(
    session: Session, new_row: NewRow[T], values: Mapping[str, Any]
) -> T | Failure:
    mapper = new_row.mapper
    known = _inserting(mapper)
    connection = session.connection(bind_arguments={"mapper": mapper})
    dialect = connection.dialect
    columns, parents = as_columns(mapper, values)
    instance = new_row.make(columns)
    for name, parent in parents.items():
        set_committed_value(instance, name, parent)
    # To be pending first would take the call 2 % more instructions.
    is_pending = _on_the_way.hear(session) or not may_skip_pending(session, instance)
    if is_pending:
        session.add(instance)
    parameters, expressions = _sent(known, instance)
    statement = returning_insert(mapper, dialect)
    if expressions:
        statement = statement.values(expressions)
    transaction, row = session.get_transaction(), None
    try:
        result = connection.execute(statement, parameters)
        row = result.first()
    except DBAPIError as error:
        is_undone = facts_of(dialect).error_undoes_statement
        return Failure(error, instance, is_undone=is_undone)
    finally:
        if row is None and instance in session:
            session.expunge(instance)
    if session.get_transaction() is not transaction:
        # Another task has closed the session. A flush raises the same.
        msg = "This transaction is closed"
        raise ResourceClosedError(msg)
    if row is None:
        return Failure(None, instance)
    _fill(known, instance, parameters, result, row)
    _register(session, mapper, instance, is_pending=is_pending)
    unread = known.readable - instance_dict(instance).keys()
    if unread:
        # The SQL expressions of column_property() are no columns of the table.
        session.expire(instance, unread)
    return instance


def _sent(
    known: _Inserting, instance: object
) -> tuple[dict[str, Any], dict[Column[Any], Any]]:
    """Return the parameters, and the SQL expressions, that a flush would send."""
    loaded: Mapping[str, Any] = instance_dict(instance)
    parameters: dict[str, Any] = {**known.empty}
    expressions: dict[Column[Any], Any] = {}
    for name, column in known.columns.items():
        if name not in loaded:
            continue
        value = loaded[name]
        if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            expressions[column] = value
            parameters.pop(column.key, None)
        # A column that is set to None gets its default, unless None is a JSON null.
        elif value is not None or column.type.should_evaluate_none:
            parameters[column.key] = value
    return parameters, expressions


def _fill(
    known: _Inserting,
    instance: object,
    parameters: Mapping[str, Any],
    result: CursorResult[Any],
    row: Any,
) -> None:
    """Put into the instance what the INSERT has made up, as a flush would."""
    # The values are committed as soon as the instance is registered.
    loaded = instance_dict(instance)
    returned = dict(zip(known.returned, row, strict=False))
    # Defaults that SQLAlchemy has evaluated are among the parameters that it sent.
    evaluated = {column.key for column in result.prefetch_cols() or ()}
    made: Any = result.last_inserted_params() if evaluated else {}
    for name, column in known.columns.items():
        if column.key in parameters:
            if name in returned:
                loaded.setdefault(name, None)
        elif column.key in evaluated:
            loaded[name] = made[column.key]
        elif name in returned:
            loaded[name] = returned[name]
        else:
            loaded.pop(name, None)  # It is deferred.


def _register(
    session: Session, mapper: Mapper[Any], instance: object, *, is_pending: bool
) -> None:
    """Make the instance persistent, and new in the transaction."""
    key = mapper.identity_key_from_instance(instance)
    stale: Any = session.identity_map.get(key)
    if stale is not None:
        # Its row has been deleted, and the new one is another row with the same key.
        session.expire(stale)
    if is_pending or not _NULL.isdisjoint(key[1]):
        session.add(instance)
        # SQLAlchemy knows which keys may be NULL in part, and refuses the others.
        register_pending(session, instance)
    else:
        register_inserted(session, instance, key)
