"""Whether calls become slower, or memory grows, with the number of calls before.

    python benchmarks/growth.py [CALLS] [DATABASE]

Each call asks for a new key. In transactions of a hundred calls, and then, a tenth of
the calls, all inside one SAVEPOINT of the caller's. Then by a thousand tasks at a time,
each in a session of its own, ten of them for one new key.

Then, on PostgreSQL, a tenth of the calls each, of what clients or applications may make
anew for each call: values, SQL, models, options, policies. (SQLAlchemy's own cache of
compiled statements is emptied before each figure, but for its size.)

Times are the processor's, of this process. The database is ``postgres``, or ``sqlite``,
whose own work is in this process.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from kinds import KINDS
from lab import Base, Tag, console, running, show
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import KeyedLocks, Policy, get_or_create, sqlite

BATCH, TASKS = 100, 1_000
URLS = {"postgres": "postgresql+asyncpg://", "sqlite": "sqlite+aiosqlite://"}
WHEN = ("first tenth", "all")
# A server may be slow beside a thousand tasks.
POLICY = Policy(locks=KeyedLocks(), wait_timeout=None)


async def ask(session: AsyncSession, number: int, policy: Policy) -> float:
    started = process_time()
    name = f"growth {number}"
    await get_or_create(session, Tag, name=name, policy=policy)
    return (process_time() - started) * 1e6


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


async def crowd(engine: AsyncEngine, calls: int) -> AsyncIterator[list[float]]:
    async def request(number: int) -> None:
        async with AsyncSession(engine) as session, session.begin():
            await ask(session, number // 10 * 10, POLICY)

    for start in range(0, calls, TASKS):
        started = process_time()
        numbers = range(calls + start, calls + start + TASKS)
        await asyncio.gather(*map(request, numbers))
        yield [(process_time() - started) * 1e6 / TASKS] * TASKS


async def grow(
    batches: AsyncIterator[list[float]], calls: int
) -> list[tuple[str, ...]]:
    """Return a row for each power of ten: the calls around it, and what is kept."""
    rows: list[tuple[str, ...]] = []
    recent: list[float] = []
    number = 0
    steps = [step for step in (10**i for i in range(3, 7)) if step < calls] + [calls]
    async for taken in batches:
        recent = [*recent, *taken][-1_000:]
        number += len(taken)
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


async def keep(engine: AsyncEngine, calls: int) -> list[tuple[str, ...]]:
    """Return a row for each kind: what is kept after a tenth of them, and after all."""
    rows: list[tuple[str, ...]] = []
    for kind, part in KINDS.items():
        figures: list[float] = []
        most = max(BATCH, int(calls * part))
        for number in range(1, most + 1):
            async with AsyncSession(engine) as session:
                await kind(session, number)
            if number in {most // 10, most}:
                cache: Any = vars(engine.sync_engine)["_compiled_cache"]
                compiled = len(cache)
                cache.clear()
                gc.collect()
                figures += [resident(), len(gc.get_objects()), compiled]
        shown = (most, *figures[0::3], *figures[1::3], *figures[2::3])
        rows.append((kind.__name__, *(f"{figure:,.0f}" for figure in shown)))
    return rows


async def measure(where: str, database: str, calls: int) -> list[list[tuple[str, ...]]]:
    engine = create_async_engine(URLS[database] + where)
    if database == "sqlite":
        sqlite.configure(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    found = [
        await grow(run(engine, many), many)
        for run, many in ((apart, calls), (together, calls // 10), (crowd, calls))
    ]
    if database == "postgres":
        found.append(await keep(engine, calls // 10))
    await engine.dispose()
    return found


def main() -> None:
    # In whole batches, of which a tenth is one, too.
    calls = max(1, int(sys.argv[1]) // 1_000) * 1_000 if sys.argv[1:] else 100_000
    database = sys.argv[2] if sys.argv[2:] else "postgres"
    screen = console(130)
    heads = "calls so far|us, median of 1,000|resident, KiB|objects"
    titles = (
        'Misses, strategy "native", in transactions of 100 calls',
        'Misses, strategy "savepoint", all in one SAVEPOINT',
        "A thousand tasks at a time, ten for each new row",
    )
    with running(database) as where:
        results = asyncio.run(measure(where, database, calls))
    for title, rows in zip(titles, results, strict=False):
        show(screen, title, heads, rows)
    for kept in results[len(titles) :]:
        columns = "resident, KiB|objects|compiled"
        both = "|".join(f"{c}, {when}" for c in columns.split("|") for when in WHEN)
        show(screen, "Kinds of calls", f"kind|calls|{both}", kept)


if __name__ == "__main__":
    main()
