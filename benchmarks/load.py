"""What a registry does to many requests at once: hits, and a burst for one new row."""

import asyncio
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter

from lab import (
    Action,
    NoLock,
    Ours,
    Plain,
    Sessions,
    Way,
    connected,
    interleave,
    spread,
)
from psycopg import AsyncConnection
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

HITS = 200
BURST = 50
_names = count()


async def round_trip(where: str) -> float:
    """Return how long one takes, in ms."""
    connection = await AsyncConnection.connect(
        f"postgresql://{where}/postgres", autocommit=True
    )
    select: Action = partial(connection.execute, "SELECT 1")
    taken = await interleave({"select": select}, 100, warmup=10)
    await connection.close()
    return median(taken["select"])


async def request(way: Way, sessions: Sessions, name: str, pause: float = 0.0) -> None:
    """Ask for one tag, in a transaction of its own that stays open for *pause*."""
    async with sessions() as session:
        await way.ask(session, name)
        if pause:
            await asyncio.sleep(pause)
        await session.commit()


async def _hits(way: Way, sessions: Sessions) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(HITS):
            group.create_task(request(way, sessions, "existing"))


async def hits(where: str, pool: int) -> list[tuple[str, ...]]:
    """200 requests at once for one row that is there."""
    async with connected(where, pool) as engine:
        sessions = async_sessionmaker(engine)
        warm = Ours()
        alone: Action = lambda: _hits(NoLock(), sessions)  # noqa: E731
        ours: dict[str, Action] = {
            "no lock": alone,
            "ours, cold": lambda: _hits(Ours(), sessions),
            "ours, warm": lambda: _hits(warm, sessions),
        }
        plain: dict[str, Action] = {
            "no lock": alone,
            "plain dict of asyncio.Lock": lambda: _hits(Plain(), sessions),
        }
        # Fewer rounds of what takes seconds, and is in no doubt.
        series = [await interleave(ours, 15), await interleave(plain, 5)]
    return [
        (
            str(pool),
            name,
            str(spread(values)),
            f"{median(values) / median(taken['no lock']):.2f}",
            f"{_paired(values, taken['no lock']):.2f}",
        )
        for taken in series
        for name, values in taken.items()
    ]


def _paired(values: list[float], alone: list[float]) -> float:
    """Return the median of the rounds' ratios."""
    return median(a / b for a, b in zip(values, alone, strict=True))


class _Traffic:
    """INSERTs that an engine sends, and violations that come back."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.inserts = self.violations = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._sent)
        event.listen(engine.sync_engine, "handle_error", self._failed)

    def _sent(self, *args: object) -> None:
        self.inserts += str(args[2]).startswith("INSERT")

    def _failed(self, context: ExceptionContext) -> None:
        code = getattr(context.original_exception, "sqlstate", None)
        self.violations += code == "23505"


async def _probe(engine: AsyncEngine, burst: "asyncio.Task[None]") -> list[float]:
    """Run an unrelated query again and again; return how long each took, in ms."""
    taken: list[float] = []
    while not burst.done():
        await asyncio.sleep(0.005)
        started = perf_counter()
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        taken.append((perf_counter() - started) * 1e3)
    return taken


async def _burst(way: Way, sessions: Sessions) -> None:
    name = f"burst {next(_names)}"
    async with asyncio.TaskGroup() as group:
        for _ in range(BURST):
            group.create_task(request(way, sessions, name, pause=0.05))


async def collapse(where: str, rounds: int = 5) -> list[tuple[str, ...]]:
    """50 requests at once for one row that is not there, with 10 connections."""
    ways: tuple[Way, ...] = (NoLock(), Plain(), Ours())
    figures: dict[str, list[tuple[float, ...]]] = {way.title: [] for way in ways}
    async with connected(where, 10) as engine:
        sessions = async_sessionmaker(engine)
        traffic = _Traffic(engine)
        for _ in range(rounds):
            for way in ways:
                traffic.inserts = traffic.violations = 0
                started = perf_counter()
                burst = asyncio.create_task(_burst(way, sessions))
                probes = await _probe(engine, burst)
                await burst
                elapsed = (perf_counter() - started) * 1e3
                sent = (traffic.inserts, traffic.violations)
                found = (*sent, elapsed, probes[0], median(probes), max(probes))
                figures[way.title].append(found)
    return [
        (title, *(f"{median(values):,.0f}" for values in zip(*found, strict=True)))
        for title, found in figures.items()
    ]
