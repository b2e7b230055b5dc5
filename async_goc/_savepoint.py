"""Insert inside a SAVEPOINT, so that losing the race costs the caller nothing."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

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
    originals = Originals(session.sync_session)
    instance: T | None = None
    try:
        async with session.begin_nested():
            with originals.noted():
                originals.assume_empty(new_row.one_to_one_parents(values))
                # The database sees the SAVEPOINT with the first statement: the
                # constructor has run by then.
                instance = await new_row.make(values)
                originals.check_new(instance)
                session.add(instance)
                await session.flush()
    except DBAPIError as error:
        originals.restore(instance)
        for changed, names in originals.unknown():
            # Its row may have been deleted meanwhile.
            with suppress(InvalidRequestError):
                await session.refresh(changed, sorted(names))
        return Failure(error, instance)
    except BaseException:
        originals.restore(instance)
        raise
    return instance
