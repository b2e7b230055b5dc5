"""Make the calls of one case in one way, each time that a line comes in.

    python benchmarks/calls.py USER@HOST:PORT CASE WAY

``instructions.py`` starts it, and measures what it does between a line and its answer.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pkgutil import resolve_name
from platform import python_version
from typing import Literal

from cases import EXISTING, fill, fresh, mixed
from claims import (
    CREATOR,
    FILTER_BY,
    NATIVE,
    NO_LOCKS,
    NOTHING_KNOWN,
    OURS,
    PREBUILT,
    RECIPE,
)
from contenders import CONTENDERS, Call, Contender, Place
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

READY, DONE = "ready", "done"


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        what: What the calls find, of the one row, or of the many, each asks for.
        where: In one open transaction, or in a whole request each.
        ours: Ways to ask, by their titles; the first is what the others are held to.
        by_hand: Titles of contenders.
        calls: How many are measured.
        warm_up: How many are made before. Some, and the interpreter has specialised
            its code, the driver has prepared its statements, and keys are known.
        most: Thousands of instructions that a call of ours takes at most, if claimed.
    """

    what: Literal["hit", "miss", "bulk"]
    where: Literal["transaction", "request"]
    ours: Mapping[str, str]
    by_hand: tuple[str, ...]
    calls: int = 100
    warm_up: int = 100
    most: int | None = None

    @property
    def way(self) -> str:
        return next(iter(self.ours))

    @property
    def ways(self) -> dict[str, str]:
        return {**self.ours, **{title: CONTENDERS[title] for title in self.by_hand}}


_OURS = {
    OURS: "contenders.ours:Savepoint",
    NO_LOCKS: "contenders.ours:NoLocks",
}
_NATIVE = {NATIVE: "contenders.ours:Native"}
_UNKNOWN = {NOTHING_KNOWN: "contenders.ours:NothingKnown"}
_IDENTITIES = {"async_goc, keys alone": "contenders.ours:Identities"}
_CREATORS = {title: CONTENDERS[title] for title in (CREATOR, "GetOrCreator")}
_IN_AUTOCOMMIT = ("asyncpg, autocommit", "Tortoise ORM", "Piccolo")
_SELECTS = (PREBUILT, FILTER_BY)
_INSERTS = (RECIPE, "ON CONFLICT by hand")

CASES = {
    "hit in tx": Case("hit", "transaction", _OURS | _UNKNOWN, _SELECTS),
    "hit": Case("hit", "request", _OURS | _UNKNOWN, _SELECTS),
    "savepoint miss in tx": Case("miss", "transaction", _OURS, (RECIPE,)),
    "savepoint miss": Case("miss", "request", _OURS, (RECIPE,)),
    "native miss in tx": Case("miss", "transaction", _NATIVE, _INSERTS),
    "native miss": Case("miss", "request", _NATIVE, _INSERTS),
    "creator hit": Case("hit", "request", _CREATORS, _IN_AUTOCOMMIT, most=320),
    "creator miss": Case("miss", "request", _CREATORS, _IN_AUTOCOMMIT),
    "bulk": Case(
        *("bulk", "request", _OURS | _IDENTITIES, ("asyncpg",)), calls=1, warm_up=1
    ),
}


async def work(where: str, case: Case, way: str) -> None:
    url = f"postgresql+asyncpg://{where}/postgres"
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    await fill(engine)
    place = Place(where, async_sessionmaker(engine, expire_on_commit=False))
    contender: Contender = resolve_name(case.ways[way])(place)
    async with contender:
        if case.what == "bulk":
            await _serve(case, partial(_bulk, contender))
        elif case.where == "request":
            await _serve(case, partial(_one_by_one, case, contender.request))
        else:
            async with contender.transaction() as call:
                await _serve(case, partial(_one_by_one, case, call))
    await engine.dispose()


async def _serve(case: Case, make: Callable[[int], Awaitable[None]]) -> None:
    await make(case.warm_up)
    # The collector's work is part of the price, but not what it does for the imports.
    gc.collect()
    gc.freeze()
    _say(f"{READY} {_versions()}")
    # Blocking is meant: nothing else is to run.
    while sys.stdin.readline():
        await make(case.calls)
        _say(DONE)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _versions() -> str:
    named = ", ".join(f"{name} {version(name)}" for name in ("SQLAlchemy", "asyncpg"))
    return f"Python {python_version()}, {named}"


async def _one_by_one(case: Case, call: Call, calls: int) -> None:
    if case.what == "hit":
        # No other rows than in the calls before, so that all of their keys are known.
        known = EXISTING[: case.warm_up]
        names = [known[number % len(known)] for number in range(calls)]
    else:
        names = fresh(calls)
    for name in names:
        assert await call(name) == (case.what == "miss")


async def _bulk(contender: Contender, calls: int) -> None:
    for _ in range(calls):
        created = await contender.bulk(mixed(2 * len(EXISTING)))
        assert created == len(EXISTING)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], CASES[sys.argv[2]], sys.argv[3]))
