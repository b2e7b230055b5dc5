"""Many tasks of a process ask for the same rows, which no constraint keeps unique."""

import asyncio
import random

from models import Review
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from async_goc import Policy, get_or_create, get_or_create_many
from async_goc._call.policy import Strategy


async def main(url: str, keys: int, tasks: int, strategy: Strategy, seed: int) -> int:
    """Return how many rows the process has created."""
    engine = create_async_engine(url, pool_size=tasks)
    sessions = async_sessionmaker(engine)
    policy = Policy(advisory_lock=True, strategy=strategy)
    created = 0

    async def worker(number: int) -> None:
        nonlocal created
        stars = list(range(keys))
        random.Random(seed * tasks + number).shuffle(stars)  # noqa: S311
        while stars:
            async with sessions.begin() as session:
                if number % 2:
                    row = {"stars": stars.pop()}
                    found = [await get_or_create(session, Review, policy=policy, **row)]
                else:
                    rows, stars = stars[:10], stars[10:]
                    found = await get_or_create_many(
                        session, Review, rows, key="stars", policy=policy
                    )
            created += sum(is_new for _, is_new in found)

    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            group.create_task(worker(number))
    await engine.dispose()
    return created
