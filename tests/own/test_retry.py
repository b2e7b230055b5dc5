"""What is run again, how often, and what is not."""

import asyncio
import logging
import random
import sqlite3
from typing import Any

import anyio
import pytest
from backends import Sessions, on_postgres, on_sqlite
from models import Tag
from sqlalchemy import StaticPool, delete, event, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from waiting import until

from async_goc import (
    Event,
    Outcome,
    Policy,
    get_or_create,
    run_in_transaction,
    sqlite,
)

pytestmark = pytest.mark.one_driver

CODES = {"40001", "40P01"}


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine)


@pytest.fixture
async def serializable(url: str) -> Any:
    engine = create_async_engine(url, isolation_level="SERIALIZABLE", max_overflow=40)
    yield async_sessionmaker(engine)
    await engine.dispose()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for; none of them is made."""
    asked: list[float] = []

    async def pause(seconds: float) -> None:
        asked.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(anyio, "sleep", pause)
    return asked


async def names(engine: AsyncEngine) -> list[str]:
    async with AsyncSession(engine) as session:
        return sorted(await session.scalars(select(Tag.name)))


def checked_out(engine: AsyncEngine) -> int:
    pool: Any = engine.pool
    count: int = pool.checkedout()
    return count


def code_of(error: BaseException) -> object:
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)


class Again:
    """Work that fails with what the database says to *statement*, a few times."""

    def __init__(self, statement: str, times: int) -> None:
        self.statement = statement
        self.times = times
        self.sessions: list[AsyncSession] = []
        self.errors: list[DBAPIError] = []

    async def __call__(self, session: AsyncSession, name: str) -> str:
        self.sessions.append(session)
        session.add(Tag(name=f"{name} {len(self.sessions)}"))
        await session.flush()
        if len(self.sessions) <= self.times:
            try:
                await session.execute(text(self.statement))
            except DBAPIError as error:
                self.errors.append(error)
                raise
        return name


def raising(code: str) -> str:
    return f"DO $$ BEGIN RAISE 'no' USING ERRCODE = '{code}'; END $$"


async def test_result(engine: AsyncEngine, sessions: Sessions) -> None:
    """The work gets a session and the arguments; its result comes back, committed."""

    async def work(session: AsyncSession, first: str, second: str) -> list[str]:
        session.add_all([Tag(name=first), Tag(name=second)])
        return [first, second]

    assert await run_in_transaction(sessions, work, "a", "b") == ["a", "b"]
    assert await names(engine) == ["a", "b"]
    assert checked_out(engine) == 0


@on_postgres
@pytest.mark.parametrize("code", sorted(CODES))
async def test_run_again(
    engine: AsyncEngine, sessions: Sessions, code: str, pauses: list[float]
) -> None:
    """The whole work runs again, each time in a new session; nothing stays of before.

    Fails without `asks_to_run_again` in `_is_passing`.
    """
    again = Again(raising(code), 2)

    async def work(session: AsyncSession, name: str) -> str:
        async with session.begin_nested():  # Its RELEASE is no COMMIT.
            session.add(Tag(name="undone"))
        await session.execute(delete(Tag))
        return await again(session, name)

    assert await run_in_transaction(sessions, work, "x") == "x"
    assert await names(engine) == ["x 3"]
    assert len(set(map(id, again.sessions))) == 3
    assert len(pauses) == 2
    assert checked_out(engine) == 0


@on_postgres
@pytest.mark.parametrize("attempts", [1, 3])
async def test_attempts_used_up(
    engine: AsyncEngine, sessions: Sessions, attempts: int
) -> None:
    """The last error comes out as it is, with one note of how often it was tried."""
    work = Again(raising("40001"), 9)
    with pytest.raises(DBAPIError) as raised:
        await run_in_transaction(sessions, work, "x", attempts=attempts)
    assert raised.value is work.errors[-1]
    times = {1: "once", 3: "3 times"}[attempts]
    assert raised.value.__notes__ == [f"The transaction was run {times}, in vain."]
    assert len(work.errors) == attempts
    assert await names(engine) == []


@on_postgres
async def test_pauses(
    sessions: Sessions, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest pause doubles from 10 ms to a second; each is random up to it."""
    monkeypatch.setattr(random, "uniform", lambda low, high: high - low)
    with pytest.raises(DBAPIError):
        await run_in_transaction(sessions, Again(raising("40001"), 20), "x", attempts=9)
    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0]


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt(), TimeoutError()],
    ids=repr,
)
async def test_errors_of_the_work(
    engine: AsyncEngine, sessions: Sessions, error: BaseException
) -> None:
    """What the work raises passes through, rolled back, and is not tried again.

    Fails without `has_failed` in `_end`: listeners would not hear of the rollback.
    """
    calls: list[str] = []

    async def work(session: AsyncSession) -> None:
        event.listen(
            session.sync_session, "after_rollback", lambda _: calls.append("rollback")
        )
        session.add(Tag(name="x"))
        await session.flush()
        calls.append("work")
        raise error

    async def call() -> BaseException:
        with pytest.raises(type(error)) as raised:
            await run_in_transaction(sessions, work)
        return raised.value

    assert await call() is error
    assert not hasattr(error, "__notes__")
    assert calls == ["work", "rollback"]
    assert await names(engine) == []
    assert checked_out(engine) == 0


async def test_constraints(engine: AsyncEngine, sessions: Sessions) -> None:
    """A violated constraint is not tried again, neither in the work nor at its end."""
    calls = 0

    async def work(session: AsyncSession, is_early: bool) -> None:
        nonlocal calls
        calls += 1
        session.add_all([Tag(name="x"), Tag(name="x")])
        if is_early:
            await session.flush()

    for is_early in (True, False):
        with pytest.raises(IntegrityError) as raised:
            await run_in_transaction(sessions, work, is_early)
        assert not hasattr(raised.value, "__notes__")
    assert calls == 2
    assert checked_out(engine) == 0


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"attempts": 0}, ValueError, "attempts is 0; give a whole number"),
        ({"attempts": True}, TypeError, "attempts is of type bool"),
        ({"attempts": 2.0}, TypeError, "attempts is of type float"),
        ({"sessions": AsyncSession}, TypeError, "type; give an async_sessionmaker"),
        ({"sessions": AsyncSession()}, TypeError, "AsyncSession; give an async_"),
        ({"work": None}, TypeError, "work is of type NoneType; give a coroutine"),
    ],
    ids=["none", "bool", "float", "a class", "a session", "no work"],
)
async def test_arguments(change: dict[str, Any], kind: Any, match: str) -> None:
    """Arguments are checked before anything is done."""
    sessions, work = async_sessionmaker(), get_or_create
    call: Any = {"sessions": sessions, "work": work, "attempts": 5} | change
    with pytest.raises(kind, match=match):
        await run_in_transaction(
            call["sessions"], call["work"], attempts=call["attempts"]
        )


@on_sqlite
async def test_scoped_sessions(sessions: Sessions) -> None:
    """A scoped session is somebody's own, and would be closed."""
    scoped: Any = async_scoped_session(sessions, asyncio.current_task)
    with pytest.raises(TypeError, match="async_scoped_session; give an async_session"):
        await run_in_transaction(scoped, get_or_create)
    await scoped.remove()


def test_without_a_loop_of_asyncio() -> None:
    """Under trio, or without any event loop, the error says what is missing."""
    call = run_in_transaction(async_sessionmaker(), Again("", 0), "x")
    with pytest.raises(RuntimeError, match="needs asyncio"):
        call.send(None)


@on_postgres
async def test_deadlock(sessions: Sessions) -> None:
    """Two transactions lock two rows in opposite order; both end well."""
    async with sessions.begin() as session:
        session.add_all([Tag(name="a"), Tag(name="b")])
    barrier = asyncio.Barrier(2)
    runs = 0

    async def work(session: AsyncSession, first: str, second: str) -> None:
        nonlocal runs
        runs += 1
        paint = update(Tag).values(colour=func.concat(Tag.colour, "x"))
        await session.execute(paint.where(Tag.name == first))
        if runs <= 2:
            await barrier.wait()
        await session.execute(paint.where(Tag.name == second))

    await asyncio.gather(
        run_in_transaction(sessions, work, "a", "b"),
        run_in_transaction(sessions, work, "b", "a"),
    )
    # The second may take its first row once more before the other wakes up.
    assert runs >= 3
    async with sessions() as session:
        assert set(await session.scalars(select(Tag.colour))) == {"xx"}


@on_postgres
async def test_serialization_failure_at_commit(
    engine: AsyncEngine, serializable: Sessions
) -> None:
    """Write skew: PostgreSQL refuses the COMMIT of one of two, which is run again."""
    barrier = asyncio.Barrier(2)
    counts: list[int] = []
    refused: list[object] = []

    @event.listens_for(serializable.kw["bind"].sync_engine, "handle_error")
    def note(context: Any) -> None:
        refused.append((context.statement, code_of(context.sqlalchemy_exception)))

    async def work(session: AsyncSession, name: str) -> None:
        counts.append(await session.scalar(select(func.count()).select_from(Tag)) or 0)
        session.add(Tag(name=name))
        await session.flush()
        if len(counts) <= 2:
            await barrier.wait()
            if name == "b":
                await until(lambda: is_committed)

    is_committed: list[bool] = []

    async def first() -> None:
        await run_in_transaction(serializable, work, "a")
        is_committed.append(True)

    await asyncio.gather(first(), run_in_transaction(serializable, work, "b"))
    assert refused == [(None, "40001")]  # A COMMIT is no statement.
    assert counts == [0, 0, 1]
    assert await names(engine) == ["a", "b"]


@on_postgres
async def test_snapshot_conflict(engine: AsyncEngine, url: str) -> None:
    """REPEATABLE READ: the second snapshot sees the rival's row."""
    own = create_async_engine(url, isolation_level="REPEATABLE READ")
    seen: list[bool] = []

    async def work(session: AsyncSession) -> None:
        await session.execute(select(Tag))
        seen.append(True)
        if len(seen) == 1:
            async with AsyncSession(engine) as rival, rival.begin():
                rival.add(Tag(name="x"))
        _, created = await get_or_create(session, Tag, name="x")
        seen.append(created)

    await run_in_transaction(async_sessionmaker(own), work)
    assert seen == [True, True, False]
    await own.dispose()


@on_sqlite
@pytest.mark.parametrize("is_alone", [True, False], ids=["own", "rival"])
async def test_deferred(url: str, is_alone: bool) -> None:
    """SQLite refuses at once to let a reader write after a rival has (517)."""
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode = WAL", "busy_timeout = 0"):
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN DEFERRED")

    sessions, errors = async_sessionmaker(engine), list[object]()
    rival = sessions()

    async def work(session: AsyncSession) -> None:
        await session.execute(select(Tag))
        try:
            if not errors:
                rival.add(Tag(name="rival"))
                await rival.flush()
                if is_alone:
                    await rival.commit()
            session.add(Tag(name="x"))
            await session.flush()
        except DBAPIError as error:
            errors.append(code_of(error))
            await rival.rollback()
            raise

    await run_in_transaction(sessions, work)
    assert errors == ([517] if is_alone else [5])
    await rival.close()
    assert await names(engine) == (["rival", "x"] if is_alone else ["x"])
    await engine.dispose()


@on_sqlite
async def test_pool_of_one(url: str) -> None:
    """An attempt has given its connection back before the next one needs it."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=5)
    sqlite.configure(engine)
    work = Again("SELECT 1", 0)
    busy = DBAPIError("", None, sqlite3_error(5))
    runs = 0

    async def busy_twice(session: AsyncSession) -> str:
        nonlocal runs
        runs += 1
        result = await work(session, "x")
        if runs < 3:
            raise busy
        return result

    sessions = async_sessionmaker(engine)
    assert await run_in_transaction(sessions, busy_twice) == "x"
    assert await names(engine) == ["x 3"]
    await engine.dispose()


def sqlite3_error(code: int) -> Exception:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = code
    return error


@on_postgres
async def test_swallowed_failures(engine: AsyncEngine, sessions: Sessions) -> None:
    """A deadlock that the work goes on after is why all else fails, and is run again.

    Fails without `_CONSEQUENCE` in `_reasons`.
    """
    again = Again(raising("40P01"), 1)

    async def work(session: AsyncSession) -> None:
        try:
            await again(session, "x")
        except DBAPIError:
            await session.execute(select(1))

    await run_in_transaction(sessions, work)
    assert await names(engine) == ["x 2"]


@on_postgres
async def test_observers_and_the_log(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt that failed is reported, and logged without its values."""
    events: list[Event] = []

    def observe(event: Event) -> None:
        events.append(event)
        msg = "no more events"
        raise LookupError(msg)

    policy = Policy(observer=observe, strategy="native")
    sessions = async_sessionmaker(engine, info={"async_goc.policy": policy})
    caplog.set_level(logging.INFO, "async_goc")
    work = Again(raising("40001"), 3)
    with pytest.raises(DBAPIError):
        await run_in_transaction(sessions, work, "secret", attempts=3)
    assert [(e.verb, e.model, e.outcome, e.strategy, e.attempts) for e in events] == [
        ("run_in_transaction", object, Outcome.FAILED, "native", number)
        for number in (1, 2, 3)
    ]
    assert [event.error for event in events] == list(work.errors)
    assert all(event.elapsed > 0 for event in events)
    infos = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert [message.partition(";")[0] for message in infos] == [
        f"attempt {number} of 3 at a transaction failed (40001)" for number in (1, 2)
    ]
    assert "secret" not in str(infos)
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 3
    assert "the observer of run_in_transaction(object) raised" in errors[0]


@pytest.mark.parametrize("is_idempotent", [False, True])
@on_postgres
async def test_work_that_commits(
    engine: AsyncEngine, sessions: Sessions, is_idempotent: bool
) -> None:
    """What is committed already is not run again, unless that does no harm.

    Fails without `has_committed` in `Attempt.may_be_repeated`.
    """
    again = Again(raising("40001"), 1)

    async def work(session: AsyncSession) -> None:
        session.add(Tag(name=f"early {len(again.sessions)}"))
        async with session.begin_nested():
            pass
        await session.commit()
        await again(session, "late")

    call = run_in_transaction(sessions, work, is_idempotent=is_idempotent)
    if is_idempotent:
        await call
        assert await names(engine) == ["early 0", "early 1", "late 2"]
        return
    with pytest.raises(DBAPIError) as raised:
        await call
    assert raised.value is again.errors[0]
    assert "may have been committed already" in raised.value.__notes__[0]
    assert await names(engine) == ["early 0"]


@pytest.mark.parametrize("way", ["commit", "rollback", "close", "nothing"])
async def test_work_that_ends_its_transaction(
    engine: AsyncEngine, sessions: Sessions, way: str
) -> None:
    """Where no transaction is left, there is nothing to commit."""
    commits: list[str] = []

    async def work(session: AsyncSession) -> None:
        if way != "nothing":
            session.add(Tag(name="x"))
            await session.flush()
            await getattr(session, way)()
        event.listen(
            session.sync_session, "before_commit", lambda _: commits.append("commit")
        )

    await run_in_transaction(sessions, work)
    assert commits == []
    assert await names(engine) == (["x"] if way == "commit" else [])


@on_postgres
async def test_autocommit(engine: AsyncEngine) -> None:
    """In AUTOCOMMIT nothing is undone, so nothing is run again.

    Fails without `is_in_autocommit` in `Commits._watch`.
    """
    own = engine.execution_options(isolation_level="AUTOCOMMIT")
    work = Again(raising("40001"), 1)
    with pytest.raises(DBAPIError) as raised:
        await run_in_transaction(async_sessionmaker(own), work, "x")
    assert "may have been committed already" in raised.value.__notes__[0]
    assert await names(engine) == ["x 1"]


@on_postgres
@pytest.mark.parametrize("is_callers", [True, False])
async def test_a_connection_of_the_caller(
    engine: AsyncEngine, is_callers: bool
) -> None:
    """Only the caller can run again what began before; no listener is left behind.

    Fails without `is_callers` in `Attempt.may_be_repeated`, and without `remove` in
    `Commits.forget`.
    """
    async with engine.connect() as connection:
        if is_callers:
            await connection.begin()
        sessions, again = async_sessionmaker(connection), Again(raising("40001"), 1)

        async def work(session: AsyncSession, name: str) -> str:
            if not is_callers:  # One connection has two transactions.
                await session.execute(select(1))
                await session.rollback()
            return await again(session, name)

        call = run_in_transaction(sessions, work, "x")
        if is_callers:
            with pytest.raises(DBAPIError) as raised:
                await call
            assert "run that one again" in raised.value.__notes__[0]
        else:
            await call
        sync: Any = connection.sync_connection
        assert list(sync.dispatch.commit) == []
    assert await names(engine) == ([] if is_callers else ["x 2"])


async def test_rolled_back_by_another_session() -> None:
    """On a shared connection, a COMMIT of what another session has undone is an error.

    Fails without `SQLITE_ABORT_ROLLBACK` in `Savepoints.commit`.
    """
    engine = sqlite.configure(create_async_engine("sqlite+aiosqlite://"))
    assert isinstance(engine.pool, StaticPool)
    sessions = async_sessionmaker(engine)

    async def work(session: AsyncSession) -> None:
        await session.execute(select(1))
        await outer.rollback()

    async with sessions() as outer:
        await outer.execute(select(1))
        with pytest.raises(DBAPIError, match="transaction around was rolled back"):
            await run_in_transaction(sessions, work)
    await engine.dispose()


async def test_listeners_that_raise(engine: AsyncEngine) -> None:
    """A listener's error after the COMMIT is the caller's, and nothing is run again.

    Fails without `note_answers` in `Attempt._commit`.
    """

    class OwnSession(AsyncSession):
        class sync_session_class(AsyncSession.sync_session_class):  # noqa: N801
            pass

    @event.listens_for(OwnSession.sync_session_class, "after_commit")
    def fail(_: object) -> None:
        msg = "no mail"
        raise LookupError(msg)

    work = Again("SELECT 1", 0)
    with pytest.raises(LookupError, match="no mail"):
        await run_in_transaction(
            async_sessionmaker(engine, class_=OwnSession), work, "x"
        )
    assert len(work.sessions) == 1
    assert await names(engine) == ["x 1"]
