"""How each way of locking ends where things go wrong."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from time import perf_counter
from typing import Any

from anyio import move_on_after
from lab import WAYS, NoLock, Ours, Plain, Sessions, Tag, Way, connected
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

BOUND = 5.0
REQUESTS = 80


async def _work(way: Way, sessions: Sessions, name: str) -> None:
    """Do a request's work, and close the session as people write it by hand."""
    session = sessions()
    try:
        await way.ask(session, name)
        await asyncio.sleep(0.6)  # Ask another service, say.
        await session.execute(select(Tag.uses).where(Tag.name == name))
        await session.commit()
    finally:
        await session.close()


async def _cut(work: Awaitable[None], seconds: float) -> bool:
    """Say whether the work was cut off, as servers on anyio do: at every await."""
    with move_on_after(seconds) as scope:
        await work
    return scope.cancelled_caught


async def cancelled(where: str) -> list[tuple[str, ...]]:
    """80 requests for 60 new rows, two thirds of them with too little time."""
    rows = []
    for kind in WAYS:
        way = kind()
        chance = Random(7)  # noqa: S311
        async with connected(where, REQUESTS) as engine:
            sessions = async_sessionmaker(engine)
            requests = [
                _cut(
                    _work(way, sessions, f"cut {way.title} {number % 60}"),
                    chance.uniform(0.1, 0.9) if number % 3 else 3.0,
                )
                for number in range(REQUESTS)
            ]
            ends = await asyncio.gather(*requests, return_exceptions=True)
            cut = sum(end is True for end in ends)
            failed = sum(isinstance(end, BaseException) for end in ends)
            at_once = way.held()
            await asyncio.sleep(0.2)
            gc.collect()
            await asyncio.sleep(0)
            found = (cut, failed, at_once, way.held())
            rows.append((way.title, *map(str, found), way.notes()))
    return rows


async def _both_orders(way: Way, sessions: Sessions) -> list[str]:
    gate = asyncio.Barrier(2)

    async def ask(*names: str) -> str:
        async with sessions() as session:
            await way.ask(session, f"{names[0]} {way.title}")
            await gate.wait()
            await way.ask(session, f"{names[1]} {way.title}")
            await session.commit()
        return "done"

    return await _ends(ask("A", "B"), ask("B", "A"))


async def _twice(way: Way, sessions: Sessions) -> list[str]:
    async def ask() -> str:
        async with sessions() as session:
            await way.ask(session, f"twice {way.title}")
            await way.ask(session, f"twice {way.title}")
            await session.commit()
        return "done"

    return await _ends(ask())


async def _row_and_key(way: Way, sessions: Sessions) -> list[str]:
    has_row, has_key = asyncio.Event(), asyncio.Event()

    async def use(session: AsyncSession) -> None:
        row = update(Tag).where(Tag.name == f"row {way.title}")
        await session.execute(row.values(uses=Tag.uses + 1))

    async def row_first() -> str:
        async with sessions() as session:
            await use(session)
            has_row.set()
            await has_key.wait()
            await way.ask(session, f"key {way.title}")
            await session.commit()
        return "done"

    async def key_first() -> str:
        async with sessions() as session:
            await has_row.wait()
            await way.ask(session, f"key {way.title}")
            has_key.set()
            await use(session)
            await session.commit()
        return "done"

    async with sessions.begin() as session:
        await NoLock().ask(session, f"row {way.title}")
    return await _ends(row_first(), key_first())


async def _ends(*tasks: Coroutine[Any, Any, str]) -> list[str]:
    return await asyncio.gather(*map(_end, tasks))


async def _end(task: Coroutine[Any, Any, str]) -> str:
    try:
        return await task
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0].split(": ")[-1]
        return f"{reason} ({getattr(error.orig, 'sqlstate', None)})"
    except RuntimeError as error:
        return f"RuntimeError: …{str(error)[-36:]}"


CASES: dict[str, Callable[[Way, Sessions], Awaitable[list[str]]]] = {
    "A then B, B then A": _both_orders,
    "one session asks twice": _twice,
    "a row lock and a key": _row_and_key,
}


async def cycles(where: str) -> list[tuple[str, ...]]:
    """Does it end? All at the same time, because most of it is waiting."""

    async def case(title: str, kind: type[Way]) -> tuple[str, ...]:
        way = kind()
        async with connected(where, 4) as engine:
            started = perf_counter()
            try:
                async with asyncio.timeout(BOUND):
                    end = " | ".join(
                        await CASES[title](way, async_sessionmaker(engine))
                    )
            except TimeoutError:
                return title, way.title, "hangs", "", way.notes()
            elapsed = f"{perf_counter() - started:.2f} s"
            return title, way.title, elapsed, end, way.notes()

    return await asyncio.gather(*(case(t, kind) for t in CASES for kind in WAYS))


def loops(where: str) -> list[tuple[str, ...]]:
    """Contend for a key on one event loop, and then on another one."""
    rows = []
    for way in (Plain(), Ours()):
        ends = [asyncio.run(_contend(way, where)) for _ in range(2)]
        rows.append((way.title, *(" | ".join(end) for end in ends), way.notes()))
    return rows


async def _contend(way: Way, where: str) -> list[str]:
    name = f"loop {way.title}"

    async def ask() -> str:
        async with sessions() as session:
            _, created = await way.ask(session, name)
            await asyncio.sleep(0.02)
            await session.commit()
        return "created" if created else "found"

    async with connected(where, 2) as engine:
        sessions = async_sessionmaker(engine)
        ends = await _ends(ask(), ask())
        async with sessions.begin() as session:
            await session.execute(delete(Tag).where(Tag.name == name))
    return ends
