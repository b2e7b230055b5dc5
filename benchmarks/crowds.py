"""Whether a call takes longer beside many waiters, or in a session with many objects.

    python benchmarks/crowds.py [WAITERS] [OBJECTS]

Waiters: so many calls at once for one missing row, beside a tenth of them. Each waits
for its turn, and fails in it: a queue that is walked through at each turn would show.

Objects: calls for rows that are not among those which the session has loaded, in turns
with the same calls in an empty session; medians of the processor time of this process.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from statistics import median
from time import perf_counter, process_time

from lab import Sessions, Tag, console, pin, postgres, show, tables
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from async_goc import (
    KeyedLocks,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

ROUNDS, WARM = 120, 30
# The uses of the rows that are loaded.
LOADED = 7
Row = tuple[str, ...]


async def wait(sessions: Sessions, waiters: int, wait_timeout: float | None) -> float:
    """Return the microseconds per call."""
    policy = Policy(locks=KeyedLocks(), wait_timeout=wait_timeout)

    async def fail() -> int:
        raise LookupError

    async def ask() -> None:
        with suppress(LookupError):
            async with sessions.begin() as session:
                defaults = {"uses": fail}
                await get_or_create(
                    session, Tag, name="crowd", defaults=defaults, policy=policy
                )

    started = perf_counter()
    await asyncio.gather(*(ask() for _ in range(waiters)))
    return (perf_counter() - started) / waiters * 1e6


async def queue(sessions: Sessions, most: int) -> list[Row]:
    rows: list[Row] = []
    await wait(sessions, most // 10, None)
    for limit in (None, 3600.0):
        few, many = [await wait(sessions, n, limit) for n in (most // 10, most)]
        figures = (f"{few:,.0f}", f"{many:,.0f}", f"{many / few:.2f}")
        rows.append((f"wait_timeout={limit}", *figures))
    return rows


Ask = Callable[[AsyncSession, str], Awaitable[object]]
NATIVE = Policy(strategy="native")
VERBS: dict[str, Ask] = {
    "get_or_create": lambda s, name: get_or_create(s, Tag, name=name),
    "get_or_create, native": lambda s, name: get_or_create(
        s, Tag, name=name, policy=NATIVE
    ),
    "update_or_create": lambda s, name: update_or_create(
        s, Tag, name=name, defaults={"uses": 1}
    ),
    "get_or_create_many": lambda s, name: get_or_create_many(
        s, Tag, [{"name": name}], key="name"
    ),
    "update_or_create_many": lambda s, name: update_or_create_many(
        s, Tag, [{"name": name, "uses": 1}], key="name"
    ),
}


async def compare(sessions: Sessions, ask: Ask, names: Iterator[str]) -> Row:
    """Make calls in an empty session and in one of many objects, in turns."""
    async with sessions() as empty, sessions() as full:
        loaded = (await full.scalars(select(Tag).where(Tag.uses == LOADED))).all()
        taken: dict[AsyncSession, list[float]] = {empty: [], full: []}
        for _ in range(WARM + ROUNDS):
            for session, series in taken.items():
                name = next(names)
                started = process_time()
                await ask(session, name)
                series.append((process_time() - started) * 1e6)
        assert all(tag in full for tag in loaded)
    small, large = (median(series[WARM:]) for series in taken.values())
    return f"{small:,.0f}", f"{large:,.0f}", f"{large / small:.2f}"


async def load(sessions: Sessions, objects: int) -> list[Row]:
    async with sessions.begin() as session:
        values = [{"name": f"loaded {n}", "uses": LOADED} for n in range(objects)]
        await session.execute(insert(Tag), values)
        calls = len(VERBS) * 2 * (WARM + ROUNDS)
        values = [{"name": f"hit {n}", "uses": 0} for n in range(calls)]
        await session.execute(insert(Tag), values)
    names = {kind: map(f"{kind} {{}}".format, count()) for kind in ("hit", "miss")}
    return [
        (f"{verb}, a {kind}", *await compare(sessions, ask, names[kind]))
        for verb, ask in VERBS.items()
        for kind in names
    ]


async def measure(where: str, waiters: int, objects: int) -> list[list[Row]]:
    engine = create_async_engine(f"postgresql+asyncpg://{where}/postgres")
    sessions = async_sessionmaker(engine)
    found = [await queue(sessions, waiters), await load(sessions, objects)]
    await engine.dispose()
    return found


def main() -> None:
    waiters, objects = [*map(int, sys.argv[1:]), *(10_000, 60_000)[len(sys.argv) - 1 :]]
    pin()
    with postgres() as where, tables(where):
        queued, loaded = asyncio.run(measure(where, waiters, objects))
    screen = console(130)
    heads = f"|{waiters // 10:,}|{waiters:,}|ratio"
    show(screen, "Waiters for one key, us per call", heads, queued)
    heads = f"|empty|{objects:,} objects|ratio"
    show(screen, "Objects in the session, us of processor per call", heads, loaded)


if __name__ == "__main__":
    main()
