"""Storms on every database and isolation level: each row once, nothing lost.

    python benchmarks/storms.py [--tasks 16] [--keys 60] [--alone] [NAME ...]

Sixteen tasks ask for the same sixty rows, each in a transaction that has written a note
and read something before it asks: it has a write to lose, and a snapshot. Where the
database itself refuses, the storm is run again through run_in_transaction(). With
``--alone`` the tasks know nothing of each other, as if each were a process.

It starts the servers that are there, each in a folder of its own: PostgreSQL, MariaDB
10.11 if it is installed, and MariaDB 11 and MySQL 9, if Debian's next release is to be
had. Names choose databases: sqlite, postgres, mariadb10, mariadb11, mysql9.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

from lab import SERVERS, Sessions, console, running, show
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from ways import UPDATES, WAYS, Base, Note, Tag, Way

from async_goc import run_in_transaction, sqlite

# How many times as long as the recipe by hand a storm may take, where that is right.
MOST: Final = 3.0
RC, RR, SERIALIZABLE = "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"
CONFIGURED, AS_MADE = "configured", "as SQLAlchemy makes it"


class Place(NamedTuple):
    """A database, and how it is used."""

    server: str
    driver: str
    level: str
    # Whether the database has to refuse some of the transactions.
    refuses: bool = False


_PLACES: Final = (
    *(Place("sqlite", "sqlite+aiosqlite", level) for level in (CONFIGURED, AS_MADE)),
    *(
        Place("postgres", driver, level, refuses=level != RC)
        for driver in ("postgresql+asyncpg", "postgresql+psycopg")
        for level in (RC, RR, SERIALIZABLE)
    ),
    *(
        Place(server, driver, level, refuses=(server, level) in _REFUSED)
        for _REFUSED in [{("mariadb11", RR)}]
        for server in ("mariadb10", "mariadb11", "mysql9")
        for driver in ("mysql+asyncmy", "mysql+aiomysql")
        for level in (RC, RR)
    ),
    *(
        Place(server, "mysql+asyncmy", SERIALIZABLE, refuses=True)
        for server in ("mariadb10", "mariadb11", "mysql9")
    ),
)


@dataclass
class Result:
    """What became of a storm."""

    created: int
    got: int
    errors: Counter[str]
    seconds: float
    # Whether no row is there twice, and nothing that was committed is missing.
    is_right: bool

    def __str__(self) -> str:
        kinds = [f"{n} x {kind}" for kind, n in self.errors.most_common(2)]
        wrong = [] if self.is_right else ["WRONG"]
        counts = f"{self.created}/{self.got}/{self.errors.total()}"
        return ", ".join([counts, *kinds, *wrong])


async def storm(
    sessions: Sessions, way: Way, tasks: int, keys: int, *, is_again: bool
) -> Result:
    created, errors = Counter[str](), Counter[str]()
    got = 0

    async def work(session: AsyncSession, name: str) -> bool:
        session.add(Note(text=name))
        await session.flush()
        await session.scalar(select(Tag.id).limit(1))
        return await way.ask(session, name, way.policy)

    async def run(name: str) -> bool:
        if is_again:
            return await run_in_transaction(sessions, work, name, attempts=200)
        async with sessions.begin() as session:
            return await work(session, name)

    async def task() -> None:
        nonlocal got
        for name in [f"tag {number}" for number in range(keys)]:
            try:
                is_created = await run(name)
            except Exception as error:  # noqa: BLE001 - they are what is counted
                errors[kind_of(error)] += 1
            else:
                created[name] += is_created
                got += not is_created

    started = perf_counter()
    await asyncio.gather(*(task() for _ in range(tasks)))
    seconds = perf_counter() - started
    calls = tasks * keys - errors.total()
    is_right = await is_complete(sessions, calls, uses=way.ask in UPDATES)
    is_right = is_right and max(created.values(), default=0) <= 1
    return Result(created.total(), got, errors, seconds, is_right)


async def is_complete(sessions: Sessions, calls: int, *, uses: bool) -> bool:
    """Whether all that was committed is there, and nothing twice."""
    async with sessions() as session:
        names = list(await session.scalars(select(Tag.name)))
        notes = await session.scalar(select(func.count(Note.id)))
        used = await session.scalar(select(func.sum(Tag.uses)))
    is_counted = not uses or (used or 0) == calls
    return len(names) == len(set(names)) and notes == calls and is_counted


def kind_of(error: Exception) -> str:
    """Return a name with the database's code, if it has one."""
    cause: Any = getattr(error, "orig", None)
    first = next(iter(getattr(cause, "args", ())), None)
    codes = [getattr(cause, name, None) for name in ("sqlite_errorname", "sqlstate")]
    code = first if isinstance(first, int) else next(filter(None, codes), "")
    return f"{type(error).__name__} {code}".strip()


async def measure(place: Place, url: str, options: Any) -> dict[str, list[Result]]:
    engine = create_async_engine(
        url,
        pool_size=options.tasks,
        max_overflow=0,
        **({"isolation_level": place.level} if place.server != "sqlite" else {}),
    )
    if place.level == CONFIGURED:
        sqlite.configure(engine, busy_timeout=60)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    found: dict[str, list[Result]] = {}
    for name, way in WAYS.items():
        policy = replace(way.policy, locks=None if options.alone else way.policy.locks)
        run = partial(
            storm, sessions, way._replace(policy=policy), options.tasks, options.keys
        )
        found[name] = []
        for is_again in (False, True):
            if is_again and not found[name][0].errors:
                break
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.drop_all)
                await connection.run_sync(Base.metadata.create_all)
            found[name].append(await run(is_again=is_again))
    await engine.dispose()
    return found


def rows_of(place: Place, found: dict[str, list[Result]]) -> Iterator[Sequence[str]]:
    for name, (first, *again) in found.items():
        by_hand = found[WAYS[name].by_hand][0]
        ratio = first.seconds / by_hand.seconds
        is_fair = not by_hand.errors and by_hand.is_right and by_hand is not first
        database = f"{place.server} {place.driver.partition('+')[2]}, {place.level}"
        is_ours = not name.endswith("by hand")
        is_well = first.is_right and (place.refuses or not first.errors)
        is_well &= all(result.is_right and not result.errors for result in again)
        is_well &= not is_fair or ratio <= MOST
        yield (
            database,
            name,
            str(first),
            f"{ratio:.1f}" if is_fair else "",
            *(map(str, again) if again else ("",)),
            ("yes" if is_well else "NO") if is_ours else "",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*SERVERS], metavar="NAME")
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--keys", type=int, default=60)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    screen = console(150)
    for name in options.names:
        with running(name) as where:
            for place in (place for place in _PLACES if place.server == name):
                url = f"{place.driver}://{where}"
                found = asyncio.run(measure(place, url, options))
                rows += map(tuple, rows_of(place, found))
                screen.print(f"{place.server} {place.driver}, {place.level}: done")
    heads = "database|way|created/got/errors|x by hand|run again|as claimed"
    show(screen, f"{options.tasks} tasks x {options.keys} rows", heads, rows)
    sys.exit(any(row[-1] == "NO" for row in rows))


if __name__ == "__main__":
    main()
