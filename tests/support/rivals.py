"""Rivals: other connections that insert, and delete, while a call is under way."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

Defaults = Callable[[], Awaitable[Mapping[str, Any]]]


def rival(engine: AsyncEngine, *rows: object) -> Callable[[], Awaitable[None]]:
    """A function that commits *rows* from a connection of its own."""

    async def insert() -> None:
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(rows)

    return insert


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
async def on_lost(
    engine: AsyncEngine, work: Callable[[], Awaitable[object]]
) -> AsyncIterator[None]:
    """Run *work* after each INSERT that fails, or skips: before the look after it."""

    def failed(_: object) -> None:
        await_only(work())

    def skipped(_connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("INSERT") and cursor.rowcount == 0:
            await_only(work())

    event.listen(engine.sync_engine, "handle_error", failed)
    event.listen(engine.sync_engine, "after_cursor_execute", skipped)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "handle_error", failed)
        event.remove(engine.sync_engine, "after_cursor_execute", skipped)
