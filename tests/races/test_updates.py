"""Concurrent updates of one row: none is lost."""

import asyncio
import sys
from pathlib import Path

import pytest
import updates
from models import Page
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


@pytest.mark.heavy
async def test_tasks_lose_nothing(engine: AsyncEngine) -> None:
    """Two tasks change a column each, and add to a third, 500 times.

    Fails without `lock` in `update_or_create`.
    """
    await asyncio.gather(
        updates.count(engine, "views", 500), updates.count(engine, "likes", 500)
    )
    await _check(engine)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "backend", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True
)
async def test_processes_lose_nothing(url: str, engine: AsyncEngine) -> None:
    """The same from two processes."""
    script, pipe = str(Path(updates.__file__)), asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, script, url, column, "500"), stdin=pipe, stdout=pipe
        )
        for column in ("views", "likes")
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    await _check(engine)


async def _check(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        page = (await session.scalars(select(Page))).one()
    assert (page.views, page.likes, page.total) == (500, 500, 1000)
