"""Insert inside a SAVEPOINT, so that losing the race costs the caller nothing."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from ._conflict import Failure
from ._defaults import NewRow
from ._fields import T
from ._originals import Originals


async def insert(
    session: AsyncSession, new_row: NewRow[T], values: Mapping[str, Any]
) -> T | Failure:
    """Insert the row, or return the database's error.

    The session must be settled. Whatever is raised or returned as an error, the
    SAVEPOINT has been rolled back and the caller's objects are as they were.
    """
    # In one greenlet: each step of an AsyncSession would switch to one of its own.
    return await session.run_sync(_insert, new_row, values)


def _insert(
    session: Session, new_row: NewRow[T], values: Mapping[str, Any]
) -> T | Failure:
    originals = Originals(session)
    instance: T | None = None
    try:
        with session.begin_nested(), originals.noted():
            originals.assume_empty(new_row.one_to_one_parents(values))
            # The database sees the SAVEPOINT with the first statement: the constructor
            # has run by then.
            instance = new_row.make(values)
            originals.check_new(instance)
            session.add(instance)
            session.flush()
    except DBAPIError as error:
        originals.restore(instance)
        for changed, names in originals.unknown():
            # Its row may have been deleted meanwhile.
            with suppress(InvalidRequestError):
                session.refresh(changed, sorted(names))
        return Failure(error, instance)
    except BaseException:
        originals.restore(instance)
        raise
    return instance
