"""Many tasks and processes insert the same few rows under SERIALIZABLE."""

import asyncio
from collections import Counter
from typing import Any

from models import Tag
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from async_goc import get_or_create, run_in_transaction

RUNS = 200


async def ask(session: AsyncSession, name: str) -> bool:
    _, created = await get_or_create(session, Tag, name=name)
    return created


async def main(url: str, keys: int, tasks: int) -> dict[str, Any]:
    """Let *tasks* tasks ask for each of *keys* tags, each in a transaction of its own.

    Returns:
        How many calls returned, and how often each name was created.
    """
    engine = create_async_engine(
        url, isolation_level="SERIALIZABLE", pool_size=tasks, max_overflow=0
    )
    sessions = async_sessionmaker(engine)
    start = asyncio.Barrier(tasks)
    created: Counter[str] = Counter()
    calls = 0

    async def worker(seed: int) -> None:
        nonlocal calls
        await start.wait()
        for number in range(keys):
            name = f"tag {(number + seed) % keys}"
            is_created = await run_in_transaction(sessions, ask, name, attempts=RUNS)
            created[name] += is_created
            calls += 1

    async with asyncio.TaskGroup() as group:
        for seed in range(tasks):
            group.create_task(worker(seed))
    await engine.dispose()
    return {"calls": calls, "created": created}
