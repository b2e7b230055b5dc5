"""What a batch is worth on SQLite, whose transactions come one after the other.

    python benchmarks/sqlite_batch.py [ROUNDS]

Fifty tasks ask for 2,000 new rows, one call after the other in each: once in a session,
a call, and a commit, once with a creator that has a batch. They take turns, each round
in a new file.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from lab import Sessions, console, pin, show
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import Batch, GetOrCreator, get_or_create, sqlite

ROWS, TASKS = 2_000, 50
LEAST = 20.0

Ask = Callable[[str], Awaitable[object]]


class Base(DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "benchmark_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    uses: Mapped[int] = mapped_column(default=0)


async def take(ask: Ask) -> float:
    """Return the microseconds per row."""

    async def work(task: int) -> None:
        for number in range(task, ROWS, TASKS):
            await ask(f"row {number}")

    started = perf_counter()
    await asyncio.gather(*map(work, range(TASKS)))
    return (perf_counter() - started) / ROWS * 1e6


async def in_sessions(sessions: Sessions) -> float:
    async def ask(name: str) -> None:
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name=name)

    return await take(ask)


async def with_batch(sessions: Sessions) -> float:
    async with GetOrCreator(sessions, batch=Batch()) as creator:
        return await take(lambda name: creator.get_or_create(Tag, name=name))


async def fresh(run: Callable[[Sessions], Awaitable[float]]) -> float:
    """Run it on a file of its own."""
    with TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'rows.db'}"
        engine = sqlite.configure(create_async_engine(url))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        sessions = async_sessionmaker(engine)
        taken = await run(sessions)
        async with sessions() as session:
            assert await session.scalar(select(func.count(Tag.id))) == ROWS
        await engine.dispose()
    return taken


async def measure(rounds: int) -> list[tuple[float, float]]:
    return [(await fresh(in_sessions), await fresh(with_batch)) for _ in range(rounds)]


def main() -> None:
    rounds = int(sys.argv[1]) if sys.argv[1:] else 7
    pin()
    found = asyncio.run(measure(rounds))
    ways = ("a session each", "GetOrCreator, batch")
    rows = [
        (way, f"{median(series):,.0f}", f"{min(series):,.0f} to {max(series):,.0f}")
        for way, series in zip(ways, zip(*found, strict=True), strict=True)
    ]
    screen = console(130)
    title = f"{ROWS:,} new rows by {TASKS} tasks on SQLite, us per row"
    show(screen, title, "way|median|range", rows)
    ratio = median(alone / batched for alone, batched in found)
    verdict = "yes" if ratio >= LEAST else "no"
    screen.print(f"{verdict}: {ratio:.1f} times as fast, at least {LEAST:.0f} claimed")


if __name__ == "__main__":
    main()
