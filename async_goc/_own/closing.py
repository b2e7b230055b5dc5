"""End a session, however often its task is cancelled meanwhile."""

import asyncio
from logging import getLogger
from typing import Final

from anyio import CancelScope
from sqlalchemy.ext.asyncio import AsyncSession

_log: Final = getLogger("async_goc")


# SQLAlchemy's own ``async with session`` waits for the end as well (since 2.1), and
# starts to wait again each time it is cancelled. A scope of anyio's that is cancelled
# cancels its tasks in every turn of the event loop, and so that wait becomes a loop
# that uses the whole CPU until the database has answered. A shielded scope keeps those
# cancellations away. It does not keep away `Task.cancel()`, which comes once: so the
# end has a task of its own, and the cancellation is raised when that is done.
async def close(session: AsyncSession, *, has_failed: bool) -> None:
    """Roll back what is left, and give the connections back."""
    task = asyncio.create_task(_end(session, has_failed=has_failed))
    cancelled = None
    with CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


async def _end(session: AsyncSession, *, has_failed: bool) -> None:
    # What matters to the caller has happened before; no error here may replace it.
    try:
        try:
            if has_failed:
                await session.rollback()
        finally:
            await session.close()
    except Exception:  # noqa: BLE001 - the connection may be broken in any way
        _log.debug("a session could not be closed in order", exc_info=True)
