"""List what is asked for: hits and misses, alone and in storms, and in bulk."""

import asyncio
from collections.abc import Sequence
from itertools import count
from time import perf_counter

from contenders import Call, Contender
from lab import Tag
from race import Case, Sample
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

EXISTING = [f"existing {number}" for number in range(5_000)]
_new = count()


async def fill(engine: AsyncEngine) -> None:
    """Insert the rows that exist, and leave the table in peace from then on."""
    async with engine.begin() as connection:
        await connection.execute(insert(Tag), [{"name": name} for name in EXISTING])
        quiet = f"ALTER TABLE {Tag.__tablename__} SET (autovacuum_enabled = off)"
        await connection.execute(text(quiet))
        await connection.execute(text(f"ANALYZE {Tag.__tablename__}"))


def cases(*, is_quick: bool) -> list[Case]:
    # Many rows come first: the garbage collector looks through what they load, and what
    # other cases leave in memory would take the longer.
    if is_quick:
        return [_in_bulk(2, 50), *_alone(4, 5), *_storms(2), thousand(1)]
    return [_in_bulk(5, 200), *_alone(30, 20), *_storms(15), thousand(9)]


def warm_up() -> list[Case]:
    """Use all connections, which then have their statements prepared."""
    return _storms(0)


def _alone(rounds: int, size: int) -> list[Case]:
    whole, inside = "session, call, commit", "the call alone, in an open transaction"
    hit, miss = (_old, _none, rounds, size), (fresh, _all, rounds, size)
    return [
        Case("hit", whole, _requests, *hit, has_references=True),
        Case("miss", whole, _requests, *miss),
        Case("hit in tx", inside, _in_transaction, *hit, has_references=True),
        Case("miss in tx", inside, _in_transaction, *miss),
    ]


def _storms(rounds: int, size: int = 50) -> list[Case]:
    once = f"{size} requests at once"
    cold, hot = f"{once} for one row, not there", f"{once} for one row, there"
    spread = f"{once}, each for a new row of its own"
    return [
        Case("cold storm", cold, _storm, _same_new, _one, rounds, size),
        Case("hot storm", hot, _storm, _same_old, _none, rounds, size),
        Case("spread", spread, _storm, fresh, _all, rounds, size),
    ]


def thousand(rounds: int, size: int = 1_000) -> Case:
    about = f"{size:,} requests at once, each for a new row of its own"
    return Case(f"{size:,} keys", about, _storm, fresh, _all, rounds, size)


def _in_bulk(rounds: int, loop_size: int) -> Case:
    size = 2 * len(EXISTING)
    about = f"{size:,} rows in one go, half of them there; else, {loop_size} in a loop"
    run = (_bulk, mixed, _half, rounds, size)
    return Case("bulk", f"{about}; time is per row", *run, loop_size=loop_size)


async def _one_by_one(call: Call, names: Sequence[str]) -> Sample:
    started = perf_counter()
    created = sum([await call(name) for name in names])
    return Sample((perf_counter() - started) * 1e6 / len(names), created)


async def _in_transaction(contender: Contender, names: Sequence[str]) -> Sample:
    async with contender.transaction() as call:
        return await _one_by_one(call, names)


async def _requests(contender: Contender, names: Sequence[str]) -> Sample:
    return await _one_by_one(contender.request, names)


async def _storm(contender: Contender, names: Sequence[str]) -> Sample:
    requests = map(contender.request, names)
    started = perf_counter()
    ends = await asyncio.gather(*requests, return_exceptions=True)
    micros = (perf_counter() - started) * 1e6 / len(names)
    failed = sum(isinstance(end, BaseException) for end in ends)
    return Sample(micros, sum(end is True for end in ends), failed)


async def _bulk(contender: Contender, names: Sequence[str]) -> Sample:
    started = perf_counter()
    created = await contender.bulk(names)
    return Sample((perf_counter() - started) * 1e6 / len(names), created)


def _old(size: int) -> list[str]:
    return EXISTING[:size]


def fresh(size: int) -> list[str]:
    return [f"new {next(_new)}" for _ in range(size)]


def _same_new(size: int) -> list[str]:
    return fresh(1) * size


def _same_old(size: int) -> list[str]:
    return EXISTING[:1] * size


def mixed(size: int) -> list[str]:
    pairs = zip(_old(size // 2), fresh(size // 2), strict=True)
    return [name for pair in pairs for name in pair]


def _none(_: int) -> int:
    return 0


def _one(_: int) -> int:
    return 1


def _half(size: int) -> int:
    return size // 2


def _all(size: int) -> int:
    return size
