"""The recorded events."""

import asyncio
from threading import Thread

import pytest
from backends import Sessions, on_sqlite
from models import Tag
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from async_goc import (
    Event,
    GetOrCreator,
    Policy,
    Stats,
    exceptions,
    get_or_create,
    get_or_create_many,
    run_in_transaction,
)
from async_goc.testing import record

pytestmark = on_sqlite


async def create(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await get_or_create(session, Tag, name="a")


async def test_whatever_policy_the_calls_have(session: AsyncSession) -> None:
    """Calls are recorded without an observer, and beside one; not after the block."""
    stats = Stats()
    with record() as events:
        await get_or_create(session, Tag, name="a")
        with record() as inner:
            policy = Policy(observer=stats)
            await get_or_create(session, Tag, name="a", policy=policy)
        await get_or_create_many(session, Tag, ["a", "b"], key="name")
    await get_or_create(session, Tag, name="c")
    verbs = ["get_or_create", "get_or_create", "get_or_create_many"]
    assert [event.verb for event in events] == verbs
    assert [event.outcome for event in events] == ["created", "hit", "created"]
    assert (inner, stats["hit"]) == ([events[1]], 1)


@pytest.mark.parametrize("has_observer", [False, True])
async def test_calls_of_a_creator(engine: AsyncEngine, has_observer: bool) -> None:
    """One event for each, whether it needs a session or not.

    Fails without `Relay` in `listener`.
    """
    heard: list[Event] = []
    policy = Policy(observer=heard.append if has_observer else None)
    creator = GetOrCreator(async_sessionmaker(engine), policy=policy)
    with record() as events:
        await creator.get_or_create(Tag, name="a")
        await creator.get_or_create(Tag, Tag.name == "a")
        await creator.get_or_create_many(Tag, ["a", "b"], key="name")
    assert [event.lane for event in events] == ["driver", "session", "session"]
    assert [event.outcome for event in events] == ["created", "hit", "created"]
    assert heard == (events if has_observer else [])


async def test_transactions_that_are_run_again(engine: AsyncEngine) -> None:
    """Each failure is recorded."""

    async def work(_: AsyncSession) -> None:
        raise exceptions.SnapshotConflictError(Tag, ("name",), None)

    with record() as events, pytest.raises(exceptions.SnapshotConflictError):
        await run_in_transaction(async_sessionmaker(engine), work, attempts=2)
    assert [(e.verb, e.outcome, e.attempts) for e in events] == [
        ("run_in_transaction", "failed", 1),
        ("run_in_transaction", "failed", 2),
    ]


async def test_calls_of_other_tasks(sessions: Sessions) -> None:
    """Tasks that began before the block are heard of, as an application's may be."""
    asked = asyncio.Event()

    async def serve() -> None:
        await asked.wait()
        await create(sessions)

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    with record() as events:
        asked.set()
        await task
    assert len(events) == 1


async def test_calls_of_other_threads(url: str) -> None:
    """Those that the block has started are heard of, and those of others are not.

    Fails without `get_ident` in `_Recording.__call__`.
    """

    async def connect_and_create() -> None:
        engine = create_async_engine(url)
        await create(async_sessionmaker(engine))
        await engine.dispose()

    def run() -> None:
        asyncio.run(connect_and_create())

    other = Thread(target=run)
    with record() as events:
        other.start()
        await asyncio.get_running_loop().run_in_executor(None, other.join)
        assert events == []
        await asyncio.to_thread(run)
    assert len(events) == 1
