"""Whether calls become slower, or memory grows, with the number of calls before.

    python benchmarks/growth.py [CALLS]

Each call asks for a new key. In transactions of a hundred calls, and then, a tenth of
the calls, all inside one SAVEPOINT of the caller's.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter

from lab import Tag, console, postgres, show, tables
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import KeyedLocks, Policy, get_or_create

BATCH = 100
POLICY = Policy(locks=KeyedLocks())


async def ask(session: AsyncSession, number: int, policy: Policy) -> float:
    started = perf_counter()
    name = f"growth {number}"
    await get_or_create(session, Tag, name=name, policy=policy)
    return (perf_counter() - started) * 1e6


async def apart(engine: AsyncEngine, calls: int) -> AsyncIterator[list[float]]:
    """Yield the microseconds of each call, batch by batch."""
    policy = replace(POLICY, strategy="native")
    for start in range(0, calls, BATCH):
        async with AsyncSession(engine) as session, session.begin():
            yield [await ask(session, start + i, policy) for i in range(BATCH)]


async def together(engine: AsyncEngine, calls: int) -> AsyncIterator[list[float]]:
    async with AsyncSession(engine) as session, session.begin_nested():
        for start in range(0, calls, BATCH):
            yield [await ask(session, -1 - start - i, POLICY) for i in range(BATCH)]


async def grow(
    batches: AsyncIterator[list[float]], calls: int
) -> list[tuple[str, ...]]:
    """Return a row for each power of ten: the calls around it, and what is kept."""
    rows: list[tuple[str, ...]] = []
    recent: list[float] = []
    number = 0
    steps = [step for step in (10**i for i in range(3, 7)) if step < calls] + [calls]
    async for taken in batches:
        recent = [*recent[-900:], *taken]
        number += BATCH
        if number in steps:
            gc.collect()
            # All that the collector knows of, which is what any cache is made of.
            kept = len(gc.get_objects())
            figures = (number, median(recent), resident(), kept)
            rows.append(tuple(f"{figure:,.0f}" for figure in figures))
    return rows


def resident() -> float:
    """Return the process's memory in KiB (on Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4


async def measure(where: str, calls: int) -> list[list[tuple[str, ...]]]:
    engine = create_async_engine(f"postgresql+asyncpg://{where}/postgres")
    found = [
        await grow(run(engine, many), many)
        for run, many in ((apart, calls), (together, calls // 10))
    ]
    await engine.dispose()
    return found


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    screen = console(130)
    heads = "calls so far|us, median of 1,000|resident, KiB|objects"
    titles = (
        'strategy "native", in transactions of 100 calls',
        'strategy "savepoint", all in one SAVEPOINT',
    )
    with postgres() as where, tables(where):
        results = asyncio.run(measure(where, calls))
    for title, rows in zip(titles, results, strict=True):
        show(screen, f"Misses, {title}", heads, rows)


if __name__ == "__main__":
    main()
