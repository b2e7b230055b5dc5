"""Concurrent updates of one row: none is lost."""

import asyncio

import processes
import pytest
import updates
from models import Page
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

TIMES = 150


@pytest.mark.heavy
async def test_tasks_lose_nothing(engine: AsyncEngine) -> None:
    """Two tasks change a column each, and add to a third, many times.

    Fails without `is_updating` in `bind`.
    """
    await asyncio.gather(
        updates.count(engine, "views", TIMES), updates.count(engine, "likes", TIMES)
    )
    await _check(engine)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "backend", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True
)
async def test_processes_lose_nothing(url: str, engine: AsyncEngine) -> None:
    """The same from two processes."""
    calls = [(url, column, TIMES) for column in ("views", "likes")]
    await processes.at_once(updates, *calls)
    await _check(engine)


async def _check(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        page = (await session.scalars(select(Page))).one()
    assert (page.views, page.likes, page.total) == (TIMES, TIMES, 2 * TIMES)
