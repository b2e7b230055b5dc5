"""Many tasks ask for the same few rows at once, in one process or in several."""

import asyncio
import random
from collections import Counter
from typing import Any

from models import Tag
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from async_goc import Policy, get_or_create, run_in_transaction, sqlite
from async_goc._call.policy import Strategy


def make_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=20, max_overflow=0)
    if engine.dialect.name == "sqlite":
        # Its busy handler polls, so a writer may be unlucky for a long time.
        sqlite.configure(engine, busy_timeout=50)
    return engine


async def storm(
    engine: AsyncEngine, keys: int, tasks: int, strategy: Strategy
) -> dict[str, Any]:
    """Let *tasks* tasks ask for each of *keys* tags, each in a transaction of its own.

    Returns:
        How many calls returned, and how often each name was created.
    """
    sessions = async_sessionmaker(engine)
    policy = Policy(strategy=strategy)
    start = asyncio.Barrier(tasks)
    created: Counter[str] = Counter()
    calls = 0

    # Where a deleted row has had the key, InnoDB's INSERTs lock gaps, and may deadlock.
    attempts = 100 if engine.dialect.name == "mysql" else 1

    async def ask(session: AsyncSession, name: str) -> bool:
        _, is_created = await get_or_create(session, Tag, name=name, policy=policy)
        return is_created

    async def worker(seed: int) -> None:
        nonlocal calls
        names = [f"tag {number}" for number in range(keys)]
        random.Random(seed).shuffle(names)  # noqa: S311
        await start.wait()
        for name in names:
            is_created = await run_in_transaction(
                sessions, ask, name, attempts=attempts
            )
            # Counted after the commit: a row that was rolled back was not created.
            created[name] += is_created
            calls += 1

    async with asyncio.TaskGroup() as group:
        for seed in range(tasks):
            group.create_task(worker(seed))
    return {"calls": calls, "created": created}


async def main(url: str, keys: int, tasks: int, strategy: Strategy) -> dict[str, Any]:
    engine = make_engine(url)
    result = await storm(engine, keys, tasks, strategy)
    await engine.dispose()
    return result
