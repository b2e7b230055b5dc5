"""Ask for overlapping shuffled rows, from several tasks of one process or more."""

import asyncio
import random
from collections import Counter

from models import Tag
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import get_or_create_many, sqlite

KEYS = 600


def make_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine, busy_timeout=50)
    return engine


async def storm(engine: AsyncEngine, seed: int, tasks: int = 4) -> Counter[str]:
    """Return how often each name was created."""
    created: Counter[str] = Counter()

    async def work(number: int) -> None:
        rng = random.Random(seed * 100 + number)  # noqa: S311
        names = rng.sample([f"tag {n:04}" for n in range(KEYS)], KEYS * 2 // 3)
        for start in range(0, len(names), 100):
            rows = [{"name": name} for name in names[start : start + 100]]
            async with AsyncSession(engine) as session, session.begin():
                results = await get_or_create_many(session, Tag, rows, chunk_size=30)
                made = [tag.name for tag, is_created in results if is_created]
            created.update(made)  # Only now: they have been committed.

    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            group.create_task(work(number))
    return created


async def main(url: str, seed: int) -> Counter[str]:
    engine = make_engine(url)
    created = await storm(engine, seed)
    await engine.dispose()
    return created
