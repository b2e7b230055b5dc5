"""Rivals: other connections that insert, and delete, while a call is under way."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

Defaults = Callable[[], Awaitable[Mapping[str, Any]]]


def after_rival(
    engine: AsyncEngine, row: object, values: Mapping[str, Any] | None = None
) -> Defaults:
    """Defaults that commit *row* elsewhere first: after the look, before the INSERT."""

    async def defaults() -> Mapping[str, Any]:
        async with AsyncSession(engine) as rival, rival.begin():
            rival.add(row)
        return values or {}

    return defaults


@asynccontextmanager
async def on_error(
    engine: AsyncEngine, work: Callable[[], Awaitable[object]]
) -> AsyncIterator[None]:
    """Run *work* after each database error: before the look that follows it."""

    def run(_: object) -> None:
        await_only(work())

    event.listen(engine.sync_engine, "handle_error", run)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "handle_error", run)
