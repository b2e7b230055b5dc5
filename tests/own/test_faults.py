"""Servers that end connections, and tasks that are cancelled, amid a call."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from random import Random
from types import coroutine
from typing import Any

import anyio
import creators
import pytest
from backends import on_postgres
from cutting import through_network
from models import Tag
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)
from steps import Steps, Way, cancel, cancel_late, collect
from waiting import until

from async_goc.exceptions import OutcomeUnknownError

# As in tests/turns/test_cancellation.py: aiosqlite's close() may be cancelled.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
WAYS = ["direct", "session", "batch"]
ways = pytest.mark.parametrize("way", WAYS)
BLOCKED = text(
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND datname = current_database()"
)
KILL = text("SELECT pg_terminate_backend(:pid)")
# (Of those that are still connecting, SQLAlchemy hands on the driver's own errors.)
OTHERS = text(
    "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
    "AND datname = current_database() AND application_name = 'creator' "
    "AND backend_start < clock_timestamp() - interval '100 ms'"
)
# What a driver sends to end a statement that is under way.
CANCEL = b"\x04\xd2\x16\x2e"


@pytest.fixture
async def admin(url: str) -> AsyncIterator[AsyncSession]:
    """A session of an engine that nobody else uses."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@pytest.fixture
async def named(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose connections can be told from all others."""
    name: dict[str, Any] = {"application_name": "creator"}
    if "asyncpg" in url:
        name = {"server_settings": name}
    engine = create_async_engine(url, connect_args=name)
    yield engine
    await engine.dispose()
    gc.collect()


async def blocked(admin: AsyncSession) -> Sequence[int]:
    """The connections that wait for a lock, as soon as there is one."""
    async with asyncio.timeout(10):
        while not (pids := (await admin.scalars(BLOCKED)).all()):
            pass
    return pids


async def kill_blocked(admin: AsyncSession) -> None:
    """End the connections that wait for a lock, as soon as there is one."""
    for pid in await blocked(admin):
        await admin.execute(KILL, {"pid": pid})


@asynccontextmanager
async def holding(engine: AsyncEngine, statement: str) -> AsyncIterator[None]:
    """Keep the locks of a statement, and roll it back in the end."""
    async with engine.connect() as connection:
        await connection.execute(text(statement))
        yield


@on_postgres
@ways
async def test_killed_while_it_looks(
    engine: AsyncEngine, admin: AsyncSession, way: str
) -> None:
    """Nothing was written: the call is done once more, and has its row.

    Fails without `SeveredError` in `Direct.find`, and without `SeveredError` in
    `Arrays._look`.
    """
    creator = creators.make(engine, way)
    other = create_async_engine(engine.url)
    async with holding(other, "LOCK TABLE tag IN ACCESS EXCLUSIVE MODE"):
        calls = asyncio.create_task(
            creators.at_once(
                creator.get_or_create(Tag, name=name) for name in ("a", "b", "a")
            )
        )
        await kill_blocked(admin)
    results = await calls
    assert [tag.name for tag, _ in results] == ["a", "b", "a"]
    assert [created for _, created in results].count(True) == 2
    await other.dispose()


@on_postgres
@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_killed_while_it_inserts(
    engine: AsyncEngine, admin: AsyncSession, way: str
) -> None:
    """An INSERT that commits by itself was on its way: each caller is told so.

    Fails without `unknown_outcome` in `Direct._write`, and without `unknown_outcome` in
    `Arrays._send`, and without `copy` in `answer_of`.
    """
    creator = creators.make(engine, way)
    other = create_async_engine(engine.url)
    async with holding(other, "INSERT INTO tag (name) VALUES ('a')"):
        equal = [creator.get_or_create(Tag, name="a") for _ in range(3)]
        calls = asyncio.create_task(creators.at_once(equal))
        await kill_blocked(admin)
    results = await calls
    unknown = [each for each in results if isinstance(each, OutcomeUnknownError)]
    # Calls that are not in the batch ask again, each by itself.
    assert len(unknown) == (3 if way == "batch" else 1)
    assert len({id(each) for each in unknown}) == len(unknown)
    assert all(each.__cause__ is not None for each in unknown)
    tag, created = await creator.get_or_create(Tag, name="a")
    assert (tag.name, created) == ("a", way == "batch")
    await other.dispose()


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
@ways
async def test_killed_in_the_pool(
    engine: AsyncEngine, admin: AsyncSession, way: str
) -> None:
    """Nothing is sent on a connection that has ended before, so nothing is unknown.

    Fails without `NoConnectionError` in `_send_by_asyncpg`.
    """
    creator = creators.make(engine, way)
    connections = [await engine.connect() for _ in range(3)]
    drivers: list[Any] = [
        (await connection.get_raw_connection()).driver_connection
        for connection in connections
    ]
    for connection in connections:
        await connection.close()
    # The first one looks, and the second one would insert.
    await admin.execute(KILL, {"pid": drivers[1].get_server_pid()})
    await until(drivers[1].is_closed)
    tag, created = await creator.get_or_create(Tag, name="a")
    assert (tag.name, created) == ("a", True)


@on_postgres
async def test_killed_before_the_commit(
    engine: AsyncEngine, admin: AsyncSession
) -> None:
    """In a session nothing is committed before the COMMIT, so it is run once more.

    Fails without `has_lost_connection` in `_is_passing`.
    """
    creator = creators.make(engine, "session")
    other = create_async_engine(engine.url)
    async with holding(other, "INSERT INTO tag (name) VALUES ('a')"):
        call = asyncio.create_task(creator.get_or_create(Tag, name="a"))
        await kill_blocked(admin)
    tag, created = await call
    assert (tag.name, created) == ("a", True)
    await other.dispose()


@on_postgres
async def test_closing_in_a_cancelled_scope(
    url: str, engine: AsyncEngine, admin: AsyncSession
) -> None:
    """While a connection is closed that a cancelled call has used, the CPU rests.

    asyncpg ends the statement as well, if it is given the time.
    Fails without `shielded` in `send_on_connection`, on asyncpg.
    """
    async with through_network(url) as (network, own):
        network.slow = CANCEL
        creator = creators.make(own)
        await creator.get_or_create(Tag, name="x")
        locked = holding(engine, "LOCK TABLE tag IN ACCESS EXCLUSIVE MODE")

        async def cancel_blocked() -> float:
            await blocked(admin)
            scope.cancel()
            return time.process_time()

        async with locked:
            cancelling = asyncio.create_task(cancel_blocked())
            with anyio.CancelScope() as scope:
                await creator.get_or_create(Tag, name="x")
            used, began = time.process_time(), await cancelling
            still = (await admin.scalars(BLOCKED)).all()
        assert scope.cancelled_caught
        assert used - began < network.delay / 2
        assert own.dialect.driver != "asyncpg" or not still
        assert own.pool.checkedout() == 0  # type: ignore[attr-defined]


async def cancel_scope(work: Coroutine[Any, Any, object], k: int) -> bool:
    """Cancel a scope of anyio's; a session that is closing by then is closed first."""
    with anyio.CancelScope() as scope:
        steps = Steps(work, scope.cancel, k)
        await steps
    return steps.count >= k


heavy = pytest.mark.heavy
each_cut = [
    *[pytest.param(cancel, way) for way in ("direct", "batch")],
    pytest.param(cancel, "session", marks=heavy),
    *[pytest.param(cancel_late, w, marks=heavy) for w in WAYS],
    *[pytest.param(cancel_scope, w, marks=heavy) for w in WAYS],
]


@pytest.mark.usefixtures("cheap_collections")
@pytest.mark.parametrize(("cut", "way"), each_cut)
async def test_cancelled_at_each_step(engine: AsyncEngine, way: str, cut: Way) -> None:
    """Wherever it is cancelled: no connection is kept, and the next call works.

    Fails without `end` in `_lead`.
    """
    creator, number, was_cut = creators.make(engine, way), 0, True
    while was_cut:
        number += 1
        was_cut = await cut(creator.get_or_create(Tag, name=f"{number}"), number)
        await collect(engine)
        async with asyncio.timeout(10):
            tag, _ = await creator.get_or_create(Tag, name=f"{number}")
            assert tag.name == f"{number}"
            await creators.rest(engine, creator)
    assert number > 1
    async with AsyncSession(engine) as session:
        names = {*await session.scalars(select(Tag.name))}
    assert names == {f"{each + 1}" for each in range(number)}


@pytest.mark.filterwarnings("ignore:The garbage collector")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_garbage_at_each_step(engine: AsyncEngine) -> None:
    """A call that nobody runs any more waits for nothing, and the pool is whole.

    Fails without `GeneratorExit` in `send_on_connection`, and without `GeneratorExit`
    in `_write`.
    """
    creator, number = creators.make(engine), 0

    async def drop(call: Any, k: int) -> bool:
        """Run the call until it is suspended for the k-th time, and no further."""

        @coroutine
        def run() -> Generator[Any, Any, bool]:
            for _ in range(k - 1):
                try:
                    waits_for = call.send(None)
                except StopIteration:
                    return False
                yield waits_for
            return True

        return await run()

    while True:
        number += 1
        call = creator.get_or_create(Tag, name=f"{number}")
        if not await drop(call, number):
            break
        # SQLAlchemy itself tries to wait where SQLite's connection is opened.
        is_sqlite = engine.dialect.name == "sqlite"
        with suppress(RuntimeError) if is_sqlite else nullcontext():
            call.close()
        del call
        gc.collect()
        async with asyncio.timeout(10):
            await creators.rest(engine, creator)
            await creator.get_or_create(Tag, name=f"{number}")
    assert number > 2


@pytest.mark.heavy
@on_postgres
@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_storm_of_kills(
    named: AsyncEngine, admin: AsyncSession, way: str
) -> None:
    """Connections are ended at random: rows, or an error that says what is unknown.

    The second time all rows are there, and none is created.
    """
    creator = creators.make(named, way, attempts=50)
    chance = Random(way)  # noqa: S311
    created: list[str] = []
    unknown = set[str]()

    async def ask(number: int) -> None:
        for key in chance.choices(range(60), k=20):
            try:
                tag, is_created = await creator.get_or_create(Tag, name=f"{key}")
            except OutcomeUnknownError:
                unknown.add(f"{key}")
            else:
                assert tag.name == f"{key}", number
                created.extend([tag.name] * is_created)

    async def storm() -> None:
        asking = asyncio.gather(*map(ask, range(30)))
        for _ in range(40):
            pids = (await admin.scalars(OTHERS)).all()
            if pids:
                await admin.execute(KILL, {"pid": chance.choice(pids)})
            if asking.done():
                break
        await asking

    await storm()
    assert len(created) == len(set(created))
    assert set(created) | unknown >= set(map(str, range(60)))
    for key in unknown:
        await creator.get_or_create(Tag, name=key)
    created.clear()
    await storm()
    assert not created
    await creator.aclose()
    # (A connection of the creator's may have been ended in the pool since.)
    assert await admin.scalar(select(func.count(Tag.id))) == 60
    assert named.pool.checkedout() == 0  # type: ignore[attr-defined]
