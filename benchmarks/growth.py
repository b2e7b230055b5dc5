"""Whether calls become slower, or memory grows, with the number of calls before.

    python benchmarks/growth.py [CALLS]

Each call asks for a new key. In transactions of a hundred calls, and then, a tenth of
the calls, all inside one SAVEPOINT of the caller's. Then, again a tenth of the calls
each, of what clients or applications may make anew for each call: values, SQL, models,
options, policies. (SQLAlchemy's own cache of compiled statements is emptied before each
figure, but for its size.)
"""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from lab import Tag, console, postgres, show, tables
from sqlalchemy import Integer, String, event, exists, func, literal_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    aliased,
    load_only,
    mapped_column,
    undefer,
)

from async_goc import (
    KeyedLocks,
    Policy,
    Stats,
    UniqueMixin,
    get_or_create,
    get_or_create_many,
    update_or_create_many,
)

BATCH = 100
WHEN = ("first tenth", "all")
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


class Own(DeclarativeBase):
    """The base of models that come and go."""


async def literal(session: AsyncSession, number: int) -> None:
    criteria = (Tag.name == f"literal {number}", func.length(Tag.name) > number % 7)
    await get_or_create(session, Tag, *criteria, policy=LAX)


async def text(session: AsyncSession, number: int) -> None:
    criterion = literal_column(f"'text {number}'") == Tag.name
    await get_or_create(session, Tag, criterion, Tag.name == "text", policy=LAX)


async def alias(session: AsyncSession, number: int) -> None:
    other = aliased(Tag)
    criterion = ~exists().where(other.name == f"alias {number}")
    await get_or_create(session, Tag, criterion, name="alias", policy=LAX)


async def option(session: AsyncSession, number: int) -> None:
    options = [undefer(Tag.name), load_only(Tag.name)]
    await get_or_create(session, Tag, name=f"{number}", options=options, policy=LAX)


async def registry(session: AsyncSession, number: int) -> None:
    policy = Policy(locks=KeyedLocks(), namespace=number, observer=Stats())
    await get_or_create(session, Tag, name="registry", policy=policy)


async def model(session: AsyncSession, number: int) -> None:
    columns = {
        "__tablename__": Tag.__tablename__,
        "__table_args__": {"extend_existing": True},
        "id": mapped_column(Integer, primary_key=True),
        "name": mapped_column(String, unique=True),
        "uses": mapped_column(Integer, default=0),
    }
    made: Any = type(f"Model{number}", (UniqueMixin, Own), columns)
    await get_or_create(session, made, name="model", policy=LAX)
    await made.as_unique(session, name="model", policy=LAX)
    Own.metadata.clear()


async def cancelled(session: AsyncSession, number: int) -> None:
    """Cancel it at its SELECT, SAVEPOINT, INSERT or RELEASE, or not at all."""
    left = number % 5

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    connection = await session.connection()
    event.listen(connection.sync_connection, "before_cursor_execute", count)
    call = get_or_create(session, Tag, name=f"cancelled {number}", policy=LAX)
    task = asyncio.create_task(call)
    with suppress(asyncio.CancelledError):
        await task


async def many(session: AsyncSession, number: int) -> None:
    names = [f"many {number} {n}" for n in range(number % 20)]
    await get_or_create_many(session, Tag, names, key="name", policy=LAX)
    rows = [{"name": name, "uses": number} for name in names]
    await update_or_create_many(session, Tag, rows, key="name", policy=LAX)


async def refused(session: AsyncSession, number: int) -> None:
    with suppress(DBAPIError):
        await get_or_create(session, Tag, name=f"\0 {number}", policy=LAX)


async def long(session: AsyncSession, number: int) -> None:
    # Of an index's row, PostgreSQL refuses so much.
    name = os.urandom(500_000).hex()
    with suppress(DBAPIError):
        await get_or_create(session, Tag, name=f"{number} {name}", policy=LAX)


LAX = replace(POLICY, missing_constraint="ignore")
# The kinds of calls, and the part of them that takes place.
KINDS: dict[Callable[[AsyncSession, int], Awaitable[None]], float] = {
    literal: 1,
    text: 0.1,
    alias: 1,
    option: 1,
    registry: 1,
    cancelled: 1,
    refused: 1,
    many: 0.1,
    model: 0.05,
    long: 0.03,
}


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


async def measure(where: str, calls: int) -> list[list[tuple[str, ...]]]:
    engine = create_async_engine(f"postgresql+asyncpg://{where}/postgres")
    found = [
        await grow(run(engine, many), many)
        for run, many in ((apart, calls), (together, calls // 10))
    ]
    found.append(await keep(engine, calls // 10))
    await engine.dispose()
    return found


def main() -> None:
    # In whole batches, of which a tenth is one, too.
    calls = max(1, int(sys.argv[1]) // 1_000) * 1_000 if sys.argv[1:] else 100_000
    screen = console(130)
    heads = "calls so far|us, median of 1,000|resident, KiB|objects"
    titles = (
        'strategy "native", in transactions of 100 calls',
        'strategy "savepoint", all in one SAVEPOINT',
    )
    with postgres() as where, tables(where):
        results = asyncio.run(measure(where, calls))
    *misses, kept = results
    columns = "resident, KiB|objects|compiled"
    both = "|".join(f"{c}, {when}" for c in columns.split("|") for when in WHEN)
    show(screen, "Kinds of calls", f"kind|calls|{both}", kept)
    for title, rows in zip(titles, misses, strict=True):
        show(screen, f"Misses, {title}", heads, rows)


if __name__ == "__main__":
    main()
