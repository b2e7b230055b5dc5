"""Write inside a SAVEPOINT, so that what fails costs the caller nothing.

The session must be settled before. What the caller still has pending would otherwise be
flushed together with what is written here, and an error of it be taken for a lost race.
"""

from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Mapper, Session

from .._call import Call
from .._databases import Failure, reason_of_end
from .._lookup import Lookup, limiting_waits
from .._models import SQL, T, reset_savepoint_count, savepoint_count
from .._new_row import NewRow
from ..exceptions import RivalTimeoutError
from .originals import Originals

Values = Mapping[str, Any]
Rows: TypeAlias = Sequence[tuple[NewRow[T], Values]]


async def insert_in_savepoint(
    call: Call, new_row: NewRow[T], values: Values
) -> T | Failure:
    """Insert the row, or return the database's error."""
    made = await insert_all(call, [(new_row, values)])
    return made if isinstance(made, Failure) else made[0]


def insert_all(call: Call, rows: Rows[T]) -> Awaitable[list[T] | Failure]:
    """Insert all of the rows, or none and return the database's error."""
    # In one greenlet, because each step of an AsyncSession would start one of its own.
    return call.session.run_sync(_insert_all, rows)


async def update(
    call: Call, lookup: Lookup[Any], instance: object, values: Values
) -> None:
    """Change the row, by one UPDATE of the columns that differ."""
    await call.session.run_sync(_update, lookup, instance, values)


class Guard:
    """Guard a block that awaits, as :func:`_guarded` does one that does not."""

    def __init__(self, call: Call, mapper: Mapper[Any]) -> None:
        self._session = call.session
        self._guarded = _guarded(call.session.sync_session, mapper)

    async def __aenter__(self) -> None:
        await self._session.run_sync(lambda _: self._guarded.__enter__())

    async def __aexit__(self, *error: object) -> None:
        cause: Any = error
        await self._session.run_sync(lambda _: self._guarded.__exit__(*cause))


@contextmanager
def _guarded(session: Session, mapper: Mapper[Any]) -> Generator[Originals]:
    """Undo all that is done inside if it fails, and restore the caller's objects."""
    # One row's INSERT or UPDATE runs inside, or all of a bulk call.
    originals = Originals(session)
    connection = session.connection(bind_arguments={"mapper": mapper})
    # The name is taken when the SAVEPOINT begins.
    count = savepoint_count(connection)
    try:
        with session.begin_nested(), originals:
            yield originals
            # While changes are noted: RELEASE would flush what is left.
            session.flush()
    except BaseException as error:
        originals.restore()
        if isinstance(error, DBAPIError):
            cause = reason_of_end(session, error, originals.reason)
            if cause is not None:
                raise cause from cause.__cause__
        # (A task that was cancelled must not wait for SQL once more.)
        if isinstance(error, (DBAPIError, RivalTimeoutError)):
            for instance, names in originals.unknown():
                # Its row may have been deleted in the meantime.
                with suppress(InvalidRequestError):
                    session.refresh(instance, sorted(names))
        raise
    finally:
        reset_savepoint_count(connection, count)


def _insert_all(session: Session, rows: Rows[T]) -> list[T] | Failure:
    made: list[T] = []
    try:
        with _guarded(session, rows[0][0].mapper) as originals:
            for new_row, values in rows:
                originals.assume_empty(new_row.one_to_one_parents(values))
                # SQLAlchemy sends SAVEPOINT with the first statement, which is after
                # the constructor has run.
                made.append(new_row.make(values))
                originals.add(made[-1])
                session.add(made[-1])
            _flush(session, rows[0][0].lookup)
    except DBAPIError as error:
        return Failure(error, made[-1] if made else None)
    return made


def _flush(session: Session, lookup: Lookup[Any]) -> None:
    """Write what is inside the guard, if that may wait for so long only."""
    # A factory's own statements come before it, and wait as the caller's do.
    if lookup.lock_timeout is not None:
        with limiting_waits(lookup, session):
            session.flush()


def _update(
    session: Session, lookup: Lookup[Any], instance: Any, values: Values
) -> None:
    changes = {n: v for n, v in values.items() if not _is_already(instance, n, v)}
    if not changes:
        return  # A SAVEPOINT would cost two round trips for nothing.
    with _guarded(session, inspect(instance).mapper):
        for name, value in changes.items():
            setattr(instance, name, value)
        _flush(session, lookup)


def _is_already(instance: object, name: str, value: Any) -> bool:
    """Whether the column is known to have that value, as a flush would compare it."""
    state: Any = inspect(instance)
    prop = state.mapper.column_attrs.get(name)
    if prop is None or name not in state.dict or isinstance(value, SQL):
        return False
    # The comparison of arrays, say, has no truth value.
    compare: Any = prop.columns[0].type.compare_values
    return compare(state.dict[name], value) is True
