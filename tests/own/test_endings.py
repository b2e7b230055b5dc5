"""Calls that are closed, batches that are ended, and pools that have run dry."""

import asyncio
import gc
from collections.abc import Generator
from types import coroutine
from typing import Any
from weakref import WeakSet

import creators
import pytest
from backends import on_postgres, on_sqlite
from models import Page, Tag
from sqlalchemy import NullPool, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from waiting import until

from async_goc import Batch, Event, Outcome, Policy, sqlite
from async_goc._own import under_way

ways = pytest.mark.parametrize("way", ["direct", "session", "batch"])


def drains() -> list[asyncio.Task[Any]]:
    """The tasks that answer batches."""
    return [task for task in asyncio.all_tasks() if "_drain" in repr(task)]


@on_sqlite
@ways
@pytest.mark.parametrize("followers", [0, 5])
async def test_closed_by_the_garbage_collector(
    engine: AsyncEngine, way: str, followers: int
) -> None:
    """It closes calls in any thread, and the others go on as after a cancellation."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    creator, door = creators.make(engine, way, policy=policy), creators.Door()
    leader = creator.get_or_create(Tag, name="x", defaults=door)

    @coroutine
    def lead_to_the_door() -> Generator[Any]:
        steps = leader.__await__()
        while True:
            waits_for = steps.send(None)
            if door.came:
                return
            yield waits_for

    await lead_to_the_door()
    others = [
        asyncio.create_task(creator.get_or_create(Tag, name="x"))
        for _ in range(followers)
    ]
    closing = None if others else asyncio.create_task(creator.aclose())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # It raises in other threads.
    await asyncio.to_thread(leader.close)
    loop.set_debug(False)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*others)
        assert [created for _, created in results].count(True) == bool(others)
        await (closing or creator.aclose())
    assert [event.outcome for event in events].count(Outcome.FAILED) == 1
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("when", ["before it begins", "in the queue", "under way"])
async def test_an_ended_batch(engine: AsyncEngine, when: str) -> None:
    """Whoever cancels all tasks ends the batch, too: its calls then ask by themselves.

    Fails without `add_done_callback` in `Queue.put`, and without `LEAVE_BATCH` in
    `Queue._stop`, and without `LEAVE_BATCH` in `Queue._answer`.
    """
    is_under_way = when == "under way"
    batch = Batch(max_size=5, max_delay=0 if is_under_way else 60)
    creator = creators.make(engine, batch=batch)
    tasks = [
        asyncio.create_task(creator.get_or_create(Tag, name=f"{number}"))
        for number in range(20 if is_under_way else 4)
    ]
    await asyncio.sleep(0)
    if is_under_way:
        taken = creators.taken(engine)
        await until(lambda: taken)
    elif when == "in the queue":
        await until(lambda: "4 queued" in repr(creator))
        await asyncio.sleep(0)  # It begins to wait for more.
    [drain] = drains()
    drain.cancel()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*tasks)
    assert all(created for _, created in results)
    assert drain.cancelled()
    await creator.aclose()


@on_postgres
@ways
async def test_no_connection_in_time(url: str, way: str) -> None:
    """Every call says what the pool says, and the next ones are answered."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    creator = creators.make(engine, way)
    async with engine.connect():
        results = await creators.at_once(
            creator.get_or_create(Tag, name=name) for name in ("a", "b", "a")
        )
    assert [type(each) for each in results] == [exc.TimeoutError] * 3
    _, created = await creator.get_or_create(Tag, name="a")
    assert created
    await creator.aclose()
    await engine.dispose()


@on_sqlite
@ways
async def test_what_is_no_default(engine: AsyncEngine, way: str) -> None:
    """It is refused as by the functions, also where a function has returned it."""
    creator = creators.make(engine, way)
    wrong: list[Any] = [5, "x", lambda: 5, {"nonsense": 1}]
    for defaults in wrong:
        with pytest.raises((TypeError, ValueError)):
            await creator.get_or_create(Tag, name="x", defaults=defaults)
        with pytest.raises((TypeError, ValueError)):
            await creator.update_or_create(Tag, name="x", defaults=defaults)
    for rows in ("abc", b"abc", {"name": "x"}):
        with pytest.raises(TypeError):
            await creator.get_or_create_many(Tag, rows, key="name")  # type: ignore[arg-type]
    assert await creators.count(engine, Tag) == 0


@on_sqlite
def test_loops_that_are_closed(url: str) -> None:
    """They do not pile up, even if their queues have waited.

    Fails without `is_closed` in `Loops.here`.
    """
    engine = sqlite.configure(create_async_engine(url, poolclass=NullPool))
    creator = creators.make(engine, "batch")
    loops = WeakSet[asyncio.AbstractEventLoop]()

    async def ask() -> None:
        loops.add(asyncio.get_running_loop())
        names = map(str, range(20))
        calls = (creator.get_or_create(Tag, name=name) for name in names)
        results = await creators.at_once(calls)
        assert all(isinstance(each, tuple) for each in results)

    for _ in range(5):
        asyncio.run(ask())
    gc.collect()
    assert len(loops) <= 2


@on_sqlite
async def test_queues_that_nothing_is_in(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are never many of them, whatever names the calls look up by.

    Fails without `is_used` in `UnderWay.queue_for`.
    """
    monkeypatch.setattr(under_way, "_MOST_QUEUES", 2)
    creator = creators.make(engine, "batch")
    for number in range(3):
        await creators.at_once(
            [
                creator.get_or_create(Tag, name=f"{number}"),
                creator.get_or_create(Tag, name=f"c{number}", defaults={"colour": "x"}),
                creator.get_or_create(Tag, slug=f"{number}", defaults={"name": "s"}),
                creator.get_or_create(Page, name=f"{number}"),
            ]
        )
    here = creator._loops.here()
    await here.wait()
    await creator.get_or_create(Tag, name="x", defaults={"slug": "x"})
    assert len(here._queues) == 1


async def test_closing_waits_for_no_more_calls(engine: AsyncEngine) -> None:
    """A batch that has time for more calls goes at once, as there will be none.

    Fails without `hurry` in `UnderWay.wait`.
    """
    creator = creators.make(engine, batch=Batch(max_delay=60))
    call = asyncio.create_task(creator.get_or_create(Tag, name="x"))
    await until(lambda: "1 queued" in repr(creator))
    async with asyncio.timeout(10):
        await creator.aclose()
    assert call.result()[1]
