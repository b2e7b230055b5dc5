"""Creators that go one way, and doors at which their calls can be held up."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any

from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from waiting import until

from async_goc import Batch, GetOrCreator

BATCH = Batch(max_delay=0.001)


def make(engine: AsyncEngine, way: str = "direct", **how: Any) -> GetOrCreator:
    """A creator whose calls go by the short way, by batches, or by a session."""
    if way == "session":
        event.listen(engine.sync_engine, "before_cursor_execute", heed)
    if way == "batch":
        how.setdefault("batch", BATCH)
    return GetOrCreator(async_sessionmaker(engine), **how)


def heed(*_: object) -> None:
    """Be a listener: the short way would pass it by, and is therefore not taken."""


def taken(engine: AsyncEngine) -> list[int]:
    """How many connections are in use, each time that one is taken from now on."""
    numbers: list[int] = []
    pool: Any = engine.pool

    def note(*_: object) -> None:
        numbers.append(pool.checkedout())

    event.listen(engine.sync_engine, "checkout", note)
    return numbers


class Door:
    """Defaults that nobody gets through before it is opened.

    Attributes:
        came: How many have come to it.
    """

    def __init__(self, **values: Any) -> None:
        self.came = 0
        self._values = values
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self) -> dict[str, Any]:
        self.came += 1
        await self._opened.wait()
        return self._values


async def at_once(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """The results of calls that begin in one turn of the loop, errors among them."""
    return await asyncio.gather(*calls, return_exceptions=True)


async def count(engine: AsyncEngine, model: type[object]) -> int:
    """How many rows are committed."""
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count()).select_from(model)) or 0


async def rest(engine: AsyncEngine, creator: GetOrCreator) -> None:
    """Wait until nothing is under way, and every connection is back."""
    pool: Any = engine.pool
    await until(lambda: "0 calls under way, 0 queued" in repr(creator))
    await until(lambda: not pool.checkedout())
