"""SQLite's one writer: transactions take turns, however they begin and end."""

import asyncio
import contextlib
import gc
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

import anyio
import pytest
import steps
from backends import on_sqlite
from children import in_child
from models import Tag
from sqlalchemy import NullPool, event, func, select, text
from sqlalchemy.exc import MissingGreenlet, OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from waiting import until

from async_goc import get_or_create, sqlite
from async_goc._databases.line import Line
from async_goc._databases.writer import Writer, _start_in_child, writer_of

# Connections that are cancelled, or dropped, are left to the collector; since Python
# 3.13, sqlite3 warns of it.
pytestmark = [
    on_sqlite,
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*was deleted before being:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning"),
]
LOCKED = pytest.raises(OperationalError, match="database is locked")


def line_of(engine: AsyncEngine) -> Line:
    return writer_of(engine.sync_engine).line()


def waiting(engine: AsyncEngine, number: int = 1) -> Callable[[], bool]:
    return lambda: len(line_of(engine)._waiting) == number


async def write(engine: AsyncEngine, name: str = "x") -> None:
    async with AsyncSession(engine) as session:
        session.add(Tag(name=name))
        await session.commit()


def aside(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that is not inside the transactions of this one."""
    return asyncio.create_task(work, context=Context())


async def run(work: Awaitable[object]) -> None:
    await work


async def names(engine: AsyncEngine) -> set[str]:
    async with AsyncSession(engine) as session:
        return set(await session.scalars(select(Tag.name)))


@pytest.fixture
async def brief(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with little patience."""
    engine = create_async_engine(url, pool_size=20)
    yield sqlite.configure(engine, busy_timeout=0.1)
    await engine.dispose()


@pytest.fixture
async def plain(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine as create_async_engine() makes it, with little patience."""
    engine = create_async_engine(url, connect_args={"timeout": 0.1})
    yield engine
    await engine.dispose()


async def by_select(session: AsyncSession, _: str) -> None:
    await session.execute(select(Tag))


async def by_add(session: AsyncSession, name: str) -> None:
    session.add(Tag(name=name))
    await session.flush()


async def by_call(session: AsyncSession, name: str) -> None:
    await get_or_create(session, Tag, name=name)


async def test_first_come_first_served(engine: AsyncEngine) -> None:
    """Whatever begins a transaction takes its turn, one at a time, in order.

    Fails without `_run_in_turn` in `Writer.begin`.
    """
    served: list[int] = []
    inside = 0

    async def request(number: int) -> None:
        nonlocal inside
        async with AsyncSession(engine) as session:
            await (by_select, by_add, by_call)[number % 3](session, str(number))
            served.append(number)
            inside += 1
            await asyncio.sleep(0)
            assert inside == 1
            inside -= 1
            await session.commit()

    async with engine.begin() as first:
        tasks = []
        for number in range(9):
            tasks.append(aside(request(number)))
            await until(waiting(engine, number + 1))
        await first.commit()
        await asyncio.gather(*tasks)
    assert served == list(range(9))
    assert line_of(engine).holder is None


Ending = Callable[[AsyncConnection], Awaitable[object]]


async def commit_in_sql(connection: AsyncConnection) -> None:
    await connection.exec_driver_sql("COMMIT")


async def detach(connection: AsyncConnection) -> None:
    raw = await connection.get_raw_connection()
    raw.detach()
    await connection.rollback()
    raw.driver_connection = None


async def close_the_driver(connection: AsyncConnection) -> None:
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.close()


async def cancel_statement(connection: AsyncConnection) -> None:
    """Cancel a statement; SQLAlchemy then closes the connection."""
    assert await steps.cancel(connection.execute(select(Tag)), 1)
    gc.collect()  # Its cursor would lock the file.


async def cancel_commit(connection: AsyncConnection) -> None:
    assert await steps.cancel(connection.commit(), 1)


async def cancel_close(connection: AsyncConnection) -> None:
    assert await steps.cancel_scope(connection.close(), 1)


ENDINGS: list[Ending] = [
    AsyncConnection.commit,
    AsyncConnection.rollback,
    AsyncConnection.close,
    AsyncConnection.invalidate,
    commit_in_sql,
    close_the_driver,
    cancel_statement,
    cancel_commit,
    cancel_close,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
@pytest.mark.parametrize("poolclass", [None, NullPool], ids=["pool", "no pool"])
async def test_each_end_passes_the_lock_on(
    url: str, ending: Ending, poolclass: Any
) -> None:
    """The next one gets its turn while the connection stays open, if it does.

    Fails without `check` in `Writer.commit`, and without `is_suspect` in `Line._sweep`.
    """
    engine = create_async_engine(url, poolclass=poolclass)
    sqlite.configure(engine, busy_timeout=60)
    connection = await engine.connect()
    await connection.execute(select(Tag))
    task = aside(write(engine))
    await until(waiting(engine))
    holder = line_of(engine).holder
    await ending(connection)
    if ending not in {commit_in_sql, close_the_driver}:
        # The others do not wait for the sweep.
        assert line_of(engine).holder is not holder
    async with asyncio.timeout(10):
        await task
    with contextlib.suppress(Exception):
        await connection.close()
    assert line_of(engine).holder is None
    assert await names(engine) == {"x"}
    await engine.dispose()


async def test_a_connection_that_is_collected(engine: AsyncEngine) -> None:
    """Wherever the collector runs, the loop passes the lock on.

    Fails without `_on_collected` in `Line.hold_for`, but for the sweep.
    """
    connections = [await engine.connect()]
    await connections[0].execute(select(Tag))
    assert line_of(engine).holder is not None
    connections.clear()
    await asyncio.to_thread(gc.collect)
    await until(lambda: line_of(engine).holder is None)
    async with asyncio.timeout(10):
        await write(engine)


@pytest.mark.parametrize("is_late", [False, True], ids=["waiting", "granted"])
async def test_cancelled_in_line(engine: AsyncEngine, is_late: bool) -> None:
    """The next one in line gets the lock, and the connection is as it was.

    Fails without `_leave` in `Line.wait`, and without `is_disconnect` in
    `Writer._keep_connection`.
    """
    first, second = await engine.connect(), await engine.connect()
    await first.execute(select(Tag))
    driver = (await second.get_raw_connection()).driver_connection

    def cancel() -> None:
        task.cancel()

    call = steps.Steps(second.execute(select(Tag)), cancel, is_late=is_late)

    async def run() -> object:
        return await call

    task = aside(run())
    await until(waiting(engine))
    follows = aside(write(engine))
    await until(waiting(engine, 2))
    if is_late:
        call.at.add(call.count)
        await first.rollback()
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await first.rollback()
    await asyncio.wait_for(follows, 10)
    assert not second.in_transaction()
    assert (await second.get_raw_connection()).driver_connection is driver
    await second.execute(text("INSERT INTO tag (name) VALUES ('undone')"))
    await second.rollback()
    await first.close()
    await second.close()
    assert await names(engine) == {"x"}
    assert line_of(engine).holder is None


async def test_a_task_that_is_collected_in_line(engine: AsyncEngine) -> None:
    """Its place in line goes with it, in the loop's thread."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # It refuses what another thread does.
    loop.set_exception_handler(lambda *_: None)  # A task was destroyed.
    async with engine.connect() as first, engine.connect() as second:
        await first.execute(select(Tag))
        tasks = [aside(second.execute(select(Tag)))]
        await until(waiting(engine))
        # Nothing else refers to the task but the future that it waits for.
        [future] = line_of(engine)._waiting.values()
        future.remove_done_callback(next(iter(future._callbacks))[0])
        del future
        tasks.clear()
        await asyncio.to_thread(gc.collect)
        await until(waiting(engine, 0))
    await write(engine)
    assert await names(engine) == {"x"}


@pytest.mark.parametrize("is_session", [True, False], ids=["session", "connection"])
async def test_a_begin_that_fails(brief: AsyncEngine, is_session: bool) -> None:
    """SQLite's error, and then the same connection begins a real transaction.

    Fails where the BEGIN is sent by a listener.
    """
    rival = sqlite3.connect(brief.url.database or "", isolation_level=None)
    async with AsyncSession(brief) if is_session else brief.connect() as user:
        rival.execute("BEGIN IMMEDIATE")
        with LOCKED as raised:
            await user.execute(select(Tag))
        assert raised.value.orig.sqlite_errorname == "SQLITE_BUSY"
        assert line_of(brief).holder is None
        rival.rollback()
        if is_session:
            await user.rollback()
        await user.execute(text("INSERT INTO tag (name) VALUES ('undone')"))
        await user.rollback()
    rival.close()
    assert await names(brief) == set()


async def test_a_healing_begin_that_fails(plain: AsyncEngine) -> None:
    """It keeps the lock from nobody, even while its session stays open.

    Fails without `end` in `Writer._run_in_turn`.
    """
    rival = sqlite3.connect(plain.url.database or "", isolation_level=None)
    async with AsyncSession(plain) as session:
        await session.execute(select(Tag))
        rival.execute("BEGIN IMMEDIATE")
        with LOCKED:
            await get_or_create(session, Tag, name="x")
        assert line_of(plain).holder is None
        rival.rollback()
        await get_or_create(session, Tag, name="x")
        await session.rollback()
    rival.close()
    assert await names(plain) == set()


async def test_a_holder_that_keeps_the_lock(
    brief: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """After busy_timeout, SQLite answers all that wait, and all that come; one record.

    Fails without `is_overdue` in `Line.is_in_vain`.
    """
    async with brief.connect() as first:
        await first.execute(select(Tag))
        tasks = [aside(write(brief)) for _ in range(5)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [OperationalError] * 5
        task = aside(write(brief))
        for _ in range(3):
            await asyncio.sleep(0)
            assert waiting(brief, 0)()
        with LOCKED:
            await task
        [record] = caplog.records
        assert (record.name, record.levelno) == ("async_goc", logging.WARNING)
        assert "0.1 s" in record.getMessage()
    await write(brief)
    assert await names(brief) == {"x"}


async def test_what_sqlite_lets_in_holds_the_lock(engine: AsyncEngine) -> None:
    """A transaction that went on without the lock has it, once the other has ended.

    Fails without `take` in `Writer._run_in_turn`, where it is said twice.
    """
    first = await engine.connect()
    await first.execute(select(Tag))
    holder = line_of(engine).holder
    assert holder is not None
    holder.is_overdue = True
    async with engine.connect() as second:
        asked = asyncio.Event()
        look = second.execute(select(Tag))
        task = aside(run(steps.Steps(look, asked.set, 1)))
        # It waits for the driver, and not in line.
        await asked.wait()
        assert waiting(engine, 0)()
        await first.close()
        await task
        assert line_of(engine).holder not in {None, holder}
        task = aside(write(engine))
        await until(waiting(engine))
        await second.rollback()
        await task


async def test_let_in_past_a_holder(engine: AsyncEngine) -> None:
    """What SQLite lets in takes the lock from nothing that holds it in the line."""
    line, first = line_of(engine), await engine.connect()
    await first.execute(select(Tag))
    holder = line.holder
    assert holder is not None
    holder.is_overdue = True
    await first.exec_driver_sql("COMMIT")
    await first.exec_driver_sql("BEGIN")
    async with engine.connect() as second:
        await aside(second.execute(select(Tag)))
        assert line.holder is holder
    await first.close()
    assert line.holder is None


@pytest.mark.parametrize("is_inside", [False, True], ids=["overdue", "inside"])
@pytest.mark.parametrize("is_free_again", [True, False])
async def test_standing_in_line_again(
    brief: AsyncEngine, is_inside: bool, is_free_again: bool
) -> None:
    """What went past a holder that has ended stands in line, once, before it fails.

    Fails without `has_room` in `Writer._run_in_turn`.
    """
    line, first = line_of(brief), await brief.connect()
    await first.execute(select(Tag))
    assert line.holder is not None
    line.holder.is_overdue = not is_inside
    # It goes on holding the line's lock, and lets go of SQLite's.
    await first.exec_driver_sql("COMMIT")
    await first.exec_driver_sql("BEGIN")
    rival = sqlite3.connect(brief.url.database or "", isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    begun: list[object] = []
    event.listen(brief.sync_engine, "begin", begun.append)
    task = asyncio.create_task(write(brief)) if is_inside else aside(write(brief))
    await until(lambda: bool(begun))  # It has gone past the line.
    await first.close()
    await until(lambda: line.holder is not None)
    if is_free_again:
        rival.rollback()
        await task
    else:
        with LOCKED:
            await task
    rival.close()
    assert await names(brief) == ({"x"} if is_free_again else set())
    assert line.holder is None


@pytest.mark.parametrize("is_child", [False, True], ids=["same task", "child"])
async def test_waiting_for_oneself(brief: AsyncEngine, is_child: bool) -> None:
    """A second transaction inside the first is not in line, and harms none that are.

    Fails without `enter` in `Writer._run_in_turn`.
    """
    others: list[asyncio.Task[None]] = []

    async def outer() -> None:
        async with AsyncSession(brief) as session:
            session.add(Tag(name="outer"))
            await session.flush()
            arrive.set()
            await until(waiting(brief, 5))
            inner = write(brief, "inner")
            with LOCKED:
                await (asyncio.create_task(inner) if is_child else inner)
            assert waiting(brief, 5)()
            await session.commit()

    # SQLite's limit is what this is about, and not the line's.
    writer_of(brief.sync_engine).limit = 60
    arrive = asyncio.Event()
    task = asyncio.create_task(outer())
    await arrive.wait()
    others = [aside(write(brief, str(n))) for n in range(5)]
    await asyncio.gather(task, *others)
    assert await names(brief) == {"outer", *"01234"}


@pytest.mark.parametrize("is_configured", [True, False])
@pytest.mark.filterwarnings("ignore::async_goc.exceptions.SqliteTransactionWarning")
async def test_writers_in_memory(backend: str, is_configured: bool) -> None:
    """On a shared connection, too, each transaction is alone, and undoes its own.

    Fails without `is_anothers` in `Writer.rollback`, and in `_begin_immediate`.
    """
    engine = create_async_engine(f"{backend}://")
    if is_configured:
        sqlite.configure(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Tag.metadata.create_all)

    served: list[int] = []

    async def request(number: int) -> None:
        async with AsyncSession(engine) as session:
            _, created = await get_or_create(session, Tag, name=str(number))
            assert created
            served.append(number)
            # All the others are there, in the middle of this one's transaction.
            await until(waiting(engine, 10 - len(served)))
            if number % 3 == 2:
                return  # The close rolls back.
            await (session.rollback if number % 3 else session.commit)()

    async with AsyncSession(engine) as first:
        await get_or_create(first, Tag, name="first")
        task = aside(request(100))
        await until(waiting(engine))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await first.commit()
    await asyncio.gather(*(aside(request(number)) for number in range(10)))
    assert await names(engine) == {"first", "0", "3", "6", "9"}
    assert line_of(engine).holder is None
    await engine.dispose()


@pytest.mark.parametrize("kind", ["DEFERRED", "AUTOCOMMIT", "listener"])
async def test_who_takes_no_turn(url: str, kind: str) -> None:
    """Readers of a DEFERRED engine, AUTOCOMMIT, and what a listener has begun.

    Fails without `_autocommits` in `Writer.begin`.
    """
    engine = create_async_engine(url)
    sqlite.configure(engine, begin="DEFERRED" if kind == "DEFERRED" else "IMMEDIATE")
    options = {"isolation_level": "AUTOCOMMIT"} if kind == "AUTOCOMMIT" else {}
    if kind == "listener":

        @event.listens_for(engine.sync_engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN")

    async with asyncio.timeout(5), engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            await connection.execution_options(**options)
            await connection.execute(select(Tag))
        assert line_of(engine).holder is None
        if options:
            # It is a property of the connection, and may end.
            await one.rollback()
            await one.execution_options(isolation_level="SERIALIZABLE")
            await one.execute(select(Tag))
            assert line_of(engine).holder is not None
    await engine.dispose()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "autocommit"])
@pytest.mark.parametrize("place", ["connection", "session", "copy", "create_engine"])
@pytest.mark.parametrize("configured", ["root", "copy"])
async def test_what_autocommit_writes_is_kept(
    url: str, level: str, place: str, configured: str
) -> None:
    """However it is asked for, and whichever copy of the engine was configured.

    Fails without `set_isolation_level` in `Writer.__init__`.
    """
    options: dict[str, Any] = {"isolation_level": level}
    engine = create_async_engine(url, **options if place == "create_engine" else {})
    copy = engine.execution_options(compiled_cache=None)
    sqlite.configure(copy if configured == "copy" else engine)
    insert = text("INSERT INTO tag (name) VALUES ('kept')")
    used = engine.execution_options(**options) if place == "copy" else engine
    if place == "session":
        async with AsyncSession(used) as session:
            await session.connection(execution_options=options)
            await session.execute(insert)
    else:
        async with used.connect() as connection:
            if place == "connection":
                await connection.execution_options(**options)
            await connection.execute(insert)
    assert await names(engine) == {"kept"}
    async with engine.begin() as connection:  # The level has ended with its user.
        await connection.execute(select(Tag))
        assert (line_of(engine).holder is None) is (place == "create_engine")
    await engine.dispose()


async def test_an_expired_attribute(engine: AsyncEngine) -> None:
    """Read without an await, it still says so, with a line and without one.

    Fails without `is_in_transaction` in `Writer.rollback`.
    """
    async with AsyncSession(engine) as session:
        session.add(tag := Tag(name="x"))
        await session.commit()
        with pytest.raises(MissingGreenlet):
            _ = tag.name
        await session.rollback()
        async with engine.begin() as other:
            await other.execute(select(Tag))
            with pytest.raises(MissingGreenlet):
                _ = tag.name
        await session.rollback()
        await session.refresh(tag)
        assert tag.name == "x"


def test_a_session_without_a_loop(url: str) -> None:
    """Without an event loop, the error is SQLAlchemy's own, too."""
    engine = sqlite.configure(create_async_engine(url, poolclass=NullPool))
    sessions = async_sessionmaker(engine)

    async def read() -> tuple[AsyncSession, AsyncConnection]:
        session = sessions()
        return session, await session.connection()

    async def close(connection: AsyncConnection) -> None:
        await connection.close()

    loops = [asyncio.new_event_loop() for _ in range(2)]
    _, connection = loops[0].run_until_complete(read())
    assert connection.sync_connection is not None
    with pytest.raises(MissingGreenlet):
        connection.sync_connection.rollback()
    line = writer_of(engine.sync_engine).line()
    assert line.is_closed()
    line.run_soon(pytest.fail)  # There is nothing to run it.
    loops[0].run_until_complete(close(connection))
    loops[0].close()
    # The closed loop's line goes when another loop comes.
    loops[1].run_until_complete(write(engine))
    assert len(writer_of(engine.sync_engine)._lines) == 1
    loops[1].close()


async def test_loops_and_threads(url: str) -> None:
    """Each loop has its own line; SQLite decides between them."""
    engine = create_async_engine(url, poolclass=NullPool)
    sqlite.configure(engine, busy_timeout=30)

    await write(engine)  # The first connection belongs to one loop.

    async def several(letter: str) -> None:
        await asyncio.gather(*(write(engine, f"{letter}{n}") for n in range(10)))

    threads = [asyncio.to_thread(asyncio.run, several(letter)) for letter in "abc"]
    await asyncio.gather(several("d"), *threads)
    assert len(await names(engine)) == 41


def test_forked_child_configures(url: str) -> None:
    """Whatever a thread of its parent was doing.

    Fails without `_start_in_child`.
    """

    def limit() -> float:
        engine = sqlite.configure(create_async_engine(url), busy_timeout=7)
        return writer_of(engine.sync_engine).limit

    # As another thread has it that meets a new engine.
    with Writer.guard:
        assert in_child("fork", limit) == 7
        # What the child has done first.
        _start_in_child()
        assert limit() == 7


async def test_healed_engines_take_turns(plain: AsyncEngine) -> None:
    """What begins on an engine that nobody has configured takes its turn, as well.

    Its limit is the driver's own timeout. Fails without `begin_immediate` in
    `_begin_immediate`.
    """
    impatient = create_async_engine(plain.url, connect_args={"timeout": 0.1})

    async def request(name: str) -> None:
        async with AsyncSession(plain) as session:
            await get_or_create(session, Tag, name=name)
            await session.commit()

    async with AsyncSession(plain) as first:
        await get_or_create(first, Tag, name="first")
        assert writer_of(plain.sync_engine).limit == 0.1
        writer_of(plain.sync_engine).limit = 60
        calls = [aside(request(str(n))) for n in range(3)]
        await until(waiting(plain, 3))
        # They do not ask SQLite, whose patience ends with two that have come later, one
        # after the other.
        for _ in range(2):
            with LOCKED:
                await write(impatient)
        await first.commit()
        await asyncio.gather(*calls)
    assert await names(plain) == {"first", *"012"}
    assert line_of(plain).holder is None
    await impatient.dispose()


@pytest.mark.heavy
async def test_a_storm_of_cancellations(url: str) -> None:
    """300 requests, most of them cancelled somewhere: nothing stays locked."""
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    sqlite.configure(engine, busy_timeout=30)
    done: set[str] = set()

    async def request(number: int) -> None:
        with anyio.move_on_after(0.002 * (number % 50)) as scope:
            async with AsyncSession(engine) as session:
                await session.execute(select(func.count()).select_from(Tag))
                await get_or_create(session, Tag, name=str(number))
                await session.commit()
        if not scope.cancelled_caught:
            done.add(str(number))

    async with asyncio.timeout(50):
        await asyncio.gather(*map(request, range(300)))
        await steps.collect(engine)
        await write(engine)
    assert done <= await names(engine)
    assert line_of(engine).holder is None
    assert waiting(engine, 0)()
    await engine.dispose()
