"""Sessions that share SQLite's only connection: each undoes and keeps its own."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextvars import Context
from typing import Any

import pytest
from backends import on_sqlite
from models import Tag
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from waiting import until

from async_goc import get_or_create, sqlite
from async_goc._databases.writer import writer_of

pytestmark = [
    on_sqlite,
    pytest.mark.filterwarnings("ignore::async_goc.exceptions.SqliteTransactionWarning"),
]


@pytest.fixture(params=[True, False], ids=["configured", "plain"])
async def memory(backend: str, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """An engine for a database in memory, with little patience."""
    options = {"connect_args": {"timeout": 0.1}}
    engine = create_async_engine(f"{backend}://", **options)
    if request.param:
        sqlite.configure(engine, busy_timeout=0.1)
    async with engine.begin() as connection:
        await connection.run_sync(Tag.metadata.create_all)
    yield engine
    await engine.dispose()


async def names(engine: AsyncEngine) -> set[str]:
    async with AsyncSession(engine) as session:
        return set(await session.scalars(select(Tag.name)))


async def add(session: AsyncSession, name: str) -> None:
    session.add(Tag(name=name))
    await session.flush()


async def call(session: AsyncSession, name: str) -> None:
    assert (await get_or_create(session, Tag, name=name))[1] is True


def aside(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that is not inside the transactions of this one."""
    return asyncio.create_task(work, context=Context())


@pytest.mark.parametrize("is_child", [False, True], ids=["same task", "child"])
@pytest.mark.parametrize("write", [add, call])
@pytest.mark.parametrize("is_kept", [True, False], ids=["outer kept", "outer undone"])
async def test_one_inside_another(
    memory: AsyncEngine, is_child: bool, write: Any, is_kept: bool
) -> None:
    """The inner one undoes its own work alone, and its commit is the outer one's.

    Fails without `_inner` in `Writer.commit`, and in `Writer.rollback`.
    """

    async def inner(name: str, end: Any) -> None:
        async with AsyncSession(memory) as session:
            await write(session, name)
            async with AsyncSession(memory) as innermost:
                await innermost.execute(select(Tag))
            await end(session)

    async with AsyncSession(memory) as outer:
        await call(outer, "outer")
        for name in ("rollback", "commit", "close"):
            work = inner(name, getattr(AsyncSession, name))
            await (asyncio.create_task(work) if is_child else work)
        found = set(await outer.scalars(select(Tag.name)))
        assert found == {"outer", "commit"}
        await (outer.commit if is_kept else outer.rollback)()
    assert await names(memory) == (found if is_kept else set())
    assert writer_of(memory.sync_engine).line().holder is None


async def test_ends_out_of_order(memory: AsyncEngine) -> None:
    """What was undone with a transaction around it says so when it commits.

    Fails without `lose_all` in `Writer.rollback`.
    """
    sessions = [AsyncSession(memory) for _ in range(4)]
    outer, one, two, three = sessions
    for number, session in enumerate(sessions):
        await call(session, str(number))
    await one.commit()  # It leaves those alone that began later.
    await two.rollback()
    with pytest.raises(OperationalError, match="was rolled back"):
        await three.commit()
    await three.rollback()
    await call(two, "2")
    await call(three, "3")
    await outer.rollback()
    await two.rollback()
    await call(outer, "0")
    with pytest.raises(OperationalError, match="was rolled back"):
        await three.commit()  # Not even in another transaction.
    await three.rollback()
    await call(one, "1")
    await outer.commit()
    await call(
        two, "2"
    )  # A transaction of its own, which the others are not inside of.
    await one.commit()
    await two.rollback()
    assert await names(memory) == set("01")
    for session in sessions:
        await session.close()


@pytest.mark.parametrize("write", [add, call])
async def test_one_beside_another(memory: AsyncEngine, write: Any) -> None:
    """It does not go on inside a transaction that is none of its business.

    SQLite, which sees one connection, would let it in. Fails without `locked` in
    `Writer._begin_inside`.
    """

    async def beside(session: AsyncSession) -> None:
        await write(session, "beside")
        await session.rollback()

    async with AsyncSession(memory) as first, AsyncSession(memory) as second:
        await call(first, "first")
        for _ in range(2):  # The limit is over when the second comes.
            with pytest.raises(OperationalError, match="is locked") as raised:
                await aside(beside(second))
            assert raised.value.orig.sqlite_errorname == "SQLITE_BUSY"
            await second.rollback()
        await first.commit()
        await aside(beside(second))
    assert await names(memory) == {"first"}


async def test_a_transaction_that_outlives_its_hold(memory: AsyncEngine) -> None:
    """The next one goes on in it, because it cannot begin another.

    Fails without `is_in_transaction` in `Writer._run_in_turn`.
    """

    async def follow() -> None:
        async with AsyncSession(memory) as session:
            await call(session, "next")
            await session.commit()

    writer = writer_of(memory.sync_engine)
    line = writer.line()
    async with AsyncSession(memory) as first:
        await call(first, "first")
        writer.limit = 60
        task = aside(follow())
        await until(line.has_waiters)
        assert line.holder is not None
        line.end(line.holder)
        await task
    assert await names(memory) == {"first", "next"}


async def test_a_plain_session_waits(memory: AsyncEngine) -> None:
    """A rollback beside a call undoes its own work.

    Fails without `_run_in_turn` in `Writer.begin`, where it is said twice.
    """

    async def beside() -> None:
        async with AsyncSession(memory) as session:
            await add(session, "beside")
            await session.rollback()

    writer = writer_of(memory.sync_engine)
    async with AsyncSession(memory) as first:
        await call(first, "first")
        writer.limit = 60
        task = aside(beside())
        await until(writer.line().has_waiters)
        await first.commit()
        await task
    assert await names(memory) == {"first"}
