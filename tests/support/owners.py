"""Owners of keys, without any transaction."""

import asyncio

from async_goc._locks.owner import Answer, Owner
from async_goc._locks.queues import Queues

Task = asyncio.Task[Answer]


class Holder(Owner):
    """An owner whose life and rank the test decides on."""

    def __init__(self, rank: int = 0) -> None:
        super().__init__()
        self.is_well = True
        self.is_busy = False
        self.stands_in_line = False
        self.level = rank

    def is_alive(self) -> bool:
        return self.is_well

    def rank(self) -> int:
        return self.level

    def is_executing(self) -> bool:
        return self.is_busy

    def is_in_line(self, _: object) -> bool:
        return self.stands_in_line


async def tick() -> None:
    """Let everything that is ready run once."""
    await asyncio.sleep(0)


async def line_up(
    queues: Queues, *owners: Owner, key: str = "k", limit: float | None = None
) -> list[Task]:
    """Let each owner wait for the key, in this order."""
    tasks = []
    for owner in owners:
        assert not queues.take(key, owner)
        tasks.append(asyncio.create_task(queues.wait(key, owner, limit)))
        await tick()
    return tasks
