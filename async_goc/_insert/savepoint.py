"""Write inside a SAVEPOINT, so that what fails costs the caller nothing."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper, Session

from .._databases import Failure
from .._models import SQL, T, same_savepoint_name
from .._new_row import NewRow
from .originals import Originals


async def insert_in_savepoint(
    session: AsyncSession, new_row: NewRow[T], values: Mapping[str, Any]
) -> T | Failure:
    """Insert the row, or return the database's error.

    The session must be settled. Whatever is raised or returned as an error, the
    SAVEPOINT has been rolled back and the caller's objects are as they were.
    """
    made = await insert_all(session, [(new_row, values)])
    return made if isinstance(made, Failure) else made[0]


async def insert_all(
    session: AsyncSession, rows: Sequence[tuple[NewRow[T], Mapping[str, Any]]]
) -> list[T] | Failure:
    """Insert all of the rows, or none; likewise."""
    # In one greenlet: each step of an AsyncSession would switch to one of its own.
    return await session.run_sync(_insert_all, rows)


def _insert_all(
    session: Session, rows: Sequence[tuple[NewRow[T], Mapping[str, Any]]]
) -> list[T] | Failure:
    originals = Originals(session)
    made: list[T] = []
    connection = session.connection(bind_arguments={"mapper": rows[0][0].mapper})
    try:
        with same_savepoint_name(connection), session.begin_nested(), originals.noted():
            for new_row, values in rows:
                originals.assume_empty(new_row.one_to_one_parents(values))
                # The database sees the SAVEPOINT with the first statement: the
                # constructor has run by then.
                made.append(new_row.make(values))
                originals.check_new(made[-1])
                session.add(made[-1])
            session.flush()
    except DBAPIError as error:
        originals.restore(*made)
        _reread(session, originals)
        return Failure(error, made[-1] if made else None)
    except BaseException:
        originals.restore(*made)
        raise
    return made


@asynccontextmanager
async def guard(
    session: AsyncSession, mapper: Mapper[Any]
) -> AsyncGenerator[None, None]:
    """Undo all that is done inside if it fails, and put the caller's objects back."""
    originals = Originals(session.sync_session)
    connection = await session.connection(bind_arguments={"mapper": mapper})
    try:
        with same_savepoint_name(connection.sync_connection), originals.noted():
            async with session.begin_nested():
                yield
    except BaseException as error:
        originals.restore()
        if isinstance(error, DBAPIError):
            await session.run_sync(_reread, originals)
        raise


async def update_in_savepoint(
    session: AsyncSession, instance: object, values: Mapping[str, Any]
) -> None:
    """Change the row, by one UPDATE of what differs.

    The session must be settled. Whatever is raised, the SAVEPOINT has been rolled
    back, and the caller's objects are as they were.
    """
    await session.run_sync(_update, instance, values)


def _update(session: Session, instance: object, values: Mapping[str, Any]) -> None:
    changes = {n: v for n, v in values.items() if not _is_already(instance, n, v)}
    if not changes:
        return  # It would be a SAVEPOINT for nothing.
    originals = Originals(session)
    connection = session.connection(bind_arguments={"mapper": type(instance)})
    try:
        with same_savepoint_name(connection), session.begin_nested(), originals.noted():
            for name, value in changes.items():
                setattr(instance, name, value)
            session.flush()
    except BaseException as error:
        originals.restore()
        if isinstance(error, DBAPIError):
            _reread(session, originals)
        raise


def _is_already(instance: object, name: str, value: Any) -> bool:
    """Whether the column is known to have that value, as a flush would compare it."""
    state: Any = inspect(instance)
    prop = state.mapper.column_attrs.get(name)
    if prop is None or name not in state.dict or isinstance(value, SQL):
        return False
    return bool(prop.columns[0].type.compare_values(state.dict[name], value))


def _reread(session: Session, originals: Originals) -> None:
    """Read anew what only the database can put back."""
    for changed, names in originals.unknown():
        # Its row may have been deleted meanwhile.
        with suppress(InvalidRequestError):
            session.refresh(changed, sorted(names))
