"""What the experiments share: a database, three ways to ask, timings, tables."""

import asyncio
import importlib
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from sqlalchemy import BigInteger, Text, create_engine, event
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    SessionTransaction,
    mapped_column,
)

from async_goc import KeyedLocks, Policy, get_or_create

Sessions = async_sessionmaker[AsyncSession]
Action = Callable[[], Awaitable[object]]


class Base(DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "benchmark_tag"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    uses: Mapped[int] = mapped_column(default=0)


class Way(Protocol):
    """A way to ask for a tag."""

    @property
    def title(self) -> str: ...

    async def ask(self, session: AsyncSession, name: str) -> tuple[Tag, bool]: ...

    def held(self) -> int:
        """How many locks are held."""
        ...

    def notes(self) -> str:
        """What else there is to say."""
        ...


class NoLock:
    """The database alone."""

    title = "no lock"
    _policy = Policy(locks=None)

    async def ask(self, session: AsyncSession, name: str) -> tuple[Tag, bool]:
        return await get_or_create(session, Tag, name=name, policy=self._policy)

    def held(self) -> int:
        return 0

    def notes(self) -> str:
        return ""


class Plain(NoLock):
    """The naive recipe: a lock per key, taken first, held until the transaction ends.

    Where the call itself fails, it lets go at once: so careful it may well be.
    """

    title = "plain dict of asyncio.Lock"

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ask(self, session: AsyncSession, name: str) -> tuple[Tag, bool]:
        if "plain" not in session.info:
            session.info["plain"] = set[asyncio.Lock]()
            event.listen(session.sync_session, "after_transaction_end", self._end)
        lock = self._locks[name]
        await lock.acquire()
        session.info["plain"].add(lock)
        try:
            return await super().ask(session, name)
        except BaseException:
            if lock in session.info["plain"]:
                session.info["plain"].remove(lock)
                lock.release()
            raise

    def held(self) -> int:
        return sum(lock.locked() for lock in self._locks.values())

    def _end(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            locks: set[asyncio.Lock] = session.info["plain"]
            while locks:
                locks.pop().release()


class Ours:
    """A registry of its own for each instance, with the default policy otherwise."""

    title = "ours"

    def __init__(self, known_keys: int = 10_000) -> None:
        self.locks = KeyedLocks(known_keys)
        self.policy = Policy(locks=self.locks)

    async def ask(self, session: AsyncSession, name: str) -> tuple[Tag, bool]:
        return await get_or_create(session, Tag, name=name, policy=self.policy)

    def held(self) -> int:
        return self.locks.statistics().held

    def notes(self) -> str:
        seen = self.locks.statistics()
        names = ("waiting", "collapsed", "timeouts", "deadlocks_avoided", "reclaimed")
        return ", ".join(f"{name} {getattr(seen, name)}" for name in names)


WAYS: tuple[type[Way], ...] = (NoLock, Plain, Ours)


def postgres() -> AbstractContextManager[str]:
    """Return the tests' own server, not yet started."""
    tests = Path(__file__).parents[1] / "tests"
    # The second is where it was before the tests had folders.
    sys.path += [str(tests / "support"), str(tests)]
    started: AbstractContextManager[str] = importlib.import_module("servers").postgres()
    return started


@contextmanager
def tables(where: str) -> Iterator[None]:
    """Make the table."""
    engine = create_engine(f"postgresql+psycopg://{where}/postgres")
    Base.metadata.create_all(engine)
    yield
    engine.dispose()


@asynccontextmanager
async def connected(where: str, size: int) -> AsyncIterator[AsyncEngine]:
    """Yield an engine with that many connections, all of them open and used."""
    url = f"postgresql+asyncpg://{where}/postgres"
    engine = create_async_engine(url, pool_size=size, max_overflow=0)
    gate = asyncio.Barrier(size)

    async def warm() -> None:
        async with AsyncSession(engine) as session:
            await NoLock().ask(session, "existing")
            await session.commit()
        async with AsyncSession(engine) as session:
            await NoLock().ask(session, "existing")
            await gate.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(warm())
    try:
        yield engine
    finally:
        await engine.dispose()


@dataclass(frozen=True, slots=True)
class Spread:
    """What a series of timings comes to, in their unit."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:,.1f}  ({self.least:,.1f} to {self.most:,.1f})"


def spread(values: list[float]) -> Spread:
    """Sum up a series."""
    return Spread(median(values), min(values), max(values))


async def interleave(
    actions: Mapping[str, Action], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Time all actions in each round, beginning with another one each; in ms."""
    names = list(actions)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warmup + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = perf_counter()
            await actions[name]()
            elapsed = (perf_counter() - started) * 1e3
            if number >= warmup:
                taken[name].append(elapsed)
    return taken


def pin() -> None:
    """Share one core with the server, which is started later.

    On two, who waits for whom wakes up another core each time: that takes longer than
    what is measured, and depends on who ran before.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def console(width: int) -> Console:
    """Return one that is so wide where it is not a terminal."""
    return Console(width=None if Console().is_terminal else width, highlight=False)


def show(console: Console, title: str, heads: str, rows: list[tuple[Any, ...]]) -> None:
    """Print a table; the columns are named in *heads*, with bars between."""
    names = heads.split("|")
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
    console.print()
