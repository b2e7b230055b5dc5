"""The direct lanes: statements, connections, and rows that are in each other's way."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import anyio
import pytest
from backends import on_postgres, on_sqlite
from creators import BATCH
from directs import direct, loaded, seen
from models import Tag
from sqlalchemy import ForeignKey, func, make_url, select, text
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from steps import Steps
from wide import Copied, Keys
from wire import Wire, wire

from async_goc import Batch, GetOrCreator, sqlite
from async_goc._databases import steps as hops
from async_goc._own.asks import Ask
from async_goc._own.direct import MISSING
from async_goc.exceptions import OutcomeUnknownError

BLOCKED = text(
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND datname = current_database()"
)
COLOURS = ("colour", "slug")


def tags(engine: AsyncEngine) -> Any:
    return direct(engine, Tag, "name", defaults=COLOURS)


async def count(engine: AsyncEngine, model: Any = Tag) -> int:
    async with AsyncSession(engine) as session:
        return await session.scalar(select(func.count()).select_from(model)) or 0


async def blocked(engine: AsyncEngine, *, is_wanted: bool = True) -> int:
    """Wait for a connection that waits for a lock, or for none; return its process."""
    pids: Any = None
    async with asyncio.timeout(10):
        while pids is None or bool(pids) is not is_wanted:
            # In one transaction, this would not change.
            async with engine.begin() as connection:
                pids = (await connection.scalars(BLOCKED)).all()
    return pids[0] if is_wanted else 0


def asked(*names: str, **defaults: str) -> list[Any]:
    return [Ask({"name": name}, defaults) for name in names]


def told(lane: Any, answers: list[Any]) -> list[Any]:
    return [
        None if a is None else (lane.instance(a[0], is_created=a[1]).name, a[1])
        for a in answers
    ]


async def test_created_and_found(engine: AsyncEngine) -> None:
    """A created instance has its empty collections; a deferred column stays so."""
    lane = direct(engine, Tag, "name")
    assert lane.lane == ("cursor" if engine.dialect.driver == "psycopg" else "driver")
    assert await lane.find({"name": "a"}) is MISSING
    made = await lane.insert({"name": "a"}, {})
    created = lane.instance(made, is_created=True)
    assert await lane.insert({"name": "a"}, {}) is None
    found = lane.instance(await lane.find({"name": "a"}), is_created=False)
    other = await loaded(engine, select(Tag))
    assert seen(found) == seen(other)
    assert found is not lane.instance(await lane.find({"name": "a"}), is_created=False)
    assert vars(other).keys() <= vars(created).keys()
    async with AsyncSession(engine) as session:
        session.add(found)
        await session.refresh(found)


@pytest.fixture
async def on_wire(url: str) -> AsyncIterator[tuple[Wire, AsyncEngine]]:
    """An engine with one connection, and what counts its round trips."""
    server = make_url(url)
    assert server.host is not None
    assert server.port is not None
    async with wire(server.host, server.port) as (counter, port):
        engine = create_async_engine(server.set(port=port))
        yield counter, engine
        await engine.dispose()


@on_postgres
async def test_round_trips(on_wire: tuple[Wire, AsyncEngine]) -> None:
    """A hit, or an INSERT, is one round trip: no BEGIN, no COMMIT, no ROLLBACK.

    So is a miss that is expected.
    """
    wire, engine = on_wire
    lane = tags(engine)
    trips: list[int] = []
    for number in range(8):  # The drivers prepare a statement when they know it.
        before = wire.trips
        await lane.insert({"name": f"{number}"}, {})
        await lane.find({"name": f"{number}"})
        await lane.find_or_insert_many(asked("0", f"m{number}"), lock_timeout=1)
        assert lane.expects_miss
        await lane.find_or_insert({"name": f"n{number}"}, {}, lock_timeout=1)
        trips.append(wire.trips - before)
    assert trips[-1] == 5
    creator = GetOrCreator(async_sessionmaker(engine), batch=Batch())
    for number in range(8):
        before = wire.trips
        await creator.get_or_create(Tag, name=f"o{number}")
        calls = [creator.get_or_create(Tag, name=f"p{number}{n}") for n in range(5)]
        results = await asyncio.gather(*calls)
        assert all(created for _, created in results)
        trips.append(wire.trips - before)
    assert trips[-1] <= 3
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_many(engine: AsyncEngine) -> None:
    """The first call that may insert a row has created it; others find it.

    What is no plain value is left to a session, and keeps nothing else from its answer.
    Fails without `are_plain` in `Arrays._distinct`, and without `_are_plain` in
    `Inserts.complete`.
    """
    lane = tags(engine)
    asks = [
        Ask({"name": "b"}, None),
        Ask({"name": "b"}, {"colour": "red"}),
        Ask({"name": "a"}, {}),
        Ask({"name": "b"}, {"colour": "blue"}),
        Ask({"name": "c"}, None),
        Ask({"name": "d"}, {"colour": None, "slug": "d"}),
        Ask({"name": None}, {}),
        Ask({"name": "e"}, {"colour": func.lower("E")}),
    ]
    for is_new in (True, False):
        answers = await lane.find_or_insert_many(asks, lock_timeout=None)
        assert told(lane, answers) == [
            ("b", False),
            ("b", is_new),
            ("a", is_new),
            ("b", False),
            None,
            ("d", is_new),
            None,
            None,
        ]
        assert lane.instance(answers[3][0], is_created=False).colour == "red"
    assert await count(engine) == 3


async def test_a_bad_row_fails_alone(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred rows, one is refused; it is told by halves, not one by one."""
    lane, asks = tags(engine), asked(*(f"{n}" for n in range(100)))
    asks[37] = Ask({"name": "37"}, {"colour": "bad"})
    asks[38] = Ask({"name": 38}, {})
    sent = 0
    if engine.dialect.name == "postgresql":
        arrays = lane._arrays
        prepare = arrays._inserts.prepare_many

        def counted(*args: Any, **how: Any) -> Any:
            nonlocal sent
            sent += 1
            return prepare(*args, **how)

        monkeypatch.setattr(arrays._inserts, "prepare_many", counted)
    answers = await lane.find_or_insert_many(asks, lock_timeout=5)
    assert answers[37] is None
    assert sum(a is not None and a[1] for a in answers) >= 98
    assert sent <= 16


@on_postgres
async def test_a_bad_key_fails_alone(engine: AsyncEngine) -> None:
    """A key that the driver, or the database, refuses keeps no other from its row."""
    lane = tags(engine)
    for bad in ("b\0", "b\ud800"):
        asks = asked("a", bad, "c", "d")
        answers = await lane.find_or_insert_many(asks, lock_timeout=None)
        assert told(lane, answers)[1] is None
    await lane.find_or_insert_many(asked("a", "c", "d"), lock_timeout=None)
    assert await count(engine) == 3


async def test_another_constraint(engine: AsyncEngine) -> None:
    """A row that conflicts with another one, by another column, is left to a session.

    It is looked for once more, and not for ever.
    """
    lane = tags(engine)
    await lane.insert({"name": "a"}, {"slug": "s"})
    assert await lane.insert({"name": "b"}, {"slug": "s"}) is None
    asks = [
        Ask({"name": n}, {"slug": s}) for n, s in (("b", "s"), ("c", "t"), ("a", "u"))
    ]
    answers = await lane.find_or_insert_many(asks, lock_timeout=5)
    assert told(lane, answers) == [None, ("c", True), ("a", False)]


@pytest.mark.parametrize("batch", [None, BATCH], ids=["alone", "batch"])
async def test_several_rows(engine: AsyncEngine, batch: Batch | None) -> None:
    """Where the database lacks the constraint, duplicates are told, not chosen from.

    Fails without `is_ambiguous` in `_find`: it takes the first.
    """

    class Base(DeclarativeBase):
        pass

    class Twice(Base):
        __tablename__ = "twice"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)

    async with engine.begin() as connection:
        key = "id SERIAL" if engine.dialect.name == "postgresql" else "id INTEGER"
        for statement in (
            f"CREATE TABLE twice ({key} PRIMARY KEY, name VARCHAR)",
            "INSERT INTO twice (name) VALUES ('a'), ('a'), ('a'), ('b')",
        ):
            await connection.execute(text(statement))
    creator = GetOrCreator(async_sessionmaker(engine), batch=batch)
    for _ in range(2):
        calls = [creator.get_or_create(Twice, name=name) for name in "abc"]
        (refused, *others) = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, MultipleResultsFound)
        assert not any(isinstance(other, BaseException) for other in others)
    assert await count(engine, Twice) == 5
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [
        {"statement_cache_size": 0},
        {"prepared_statement_name_func": lambda: f"__asyncpg_{uuid4()}__"},
    ],
)
async def test_pooler(url: str, arguments: dict[str, Any]) -> None:
    """Settings for a pooler, which is to see whole transactions, open no direct lane.

    Fails without `is_refused_by` in `_check_statements`.
    """
    engine = create_async_engine(url, connect_args=arguments)
    lane = tags(engine)
    assert await lane.find({"name": "a"}) is None
    assert await lane.insert({"name": "a"}, {}) is None
    assert await lane.find_or_insert_many(asked("a"), lock_timeout=None) == [None]
    assert await count(engine) == 0
    await engine.dispose()


async def test_collections(engine: AsyncEngine) -> None:
    """The collections of a created instance are loaded, and empty; of a found one not.

    Fails without `fill_empty` in `Loader.load`.
    """

    class Base(DeclarativeBase):
        pass

    class Whole(Base):
        __tablename__ = "whole"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        parts: Mapped[list["Part"]] = relationship()

    class Part(Base):
        __tablename__ = "part"
        id: Mapped[int] = mapped_column(primary_key=True)
        whole_id: Mapped[int] = mapped_column(ForeignKey("whole.id"))

    Base.registry.configure()
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    lane = direct(engine, Whole, "name")
    [(row, created)] = await lane.find_or_insert_many(asked("a"), lock_timeout=None)
    assert created
    first, second = (lane.instance(row, is_created=True) for _ in range(2))
    assert first.parts == second.parts == []
    assert first.parts is not second.parts
    found = lane.instance(await lane.find({"name": "a"}), is_created=False)
    assert "parts" not in vars(found)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


@on_postgres
async def test_equal_keys(engine: AsyncEngine) -> None:
    """What only the database can compare is left to a session; CHAR is no exception."""
    lane = direct(engine, Keys, "padded")
    asks: list[Any] = [Ask({"padded": "a"}, {}), Ask({"padded": "a "}, {})]
    assert await lane.find_or_insert_many(asks, lock_timeout=5) == [None, None]
    made = await lane.insert({"padded": "a "}, {})
    assert lane.instance(made, is_created=True).padded == "a   "
    assert await lane.insert({"padded": "a"}, {}) is None
    found = await lane.find({"padded": "a"})
    assert lane.instance(found, is_created=False).padded == "a   "


async def test_defaults_of_the_whole_row(engine: AsyncEngine) -> None:
    """A row that only a flush can make is left to a session; found it is."""
    lane = direct(engine, Copied, "name", defaults=["word"])
    if engine.dialect.name == "sqlite":
        return  # It has no sequences.
    assert await lane.insert({"name": "a"}, {"word": "w"}) is None
    answers = await lane.find_or_insert_many(asked("a", word="w"), lock_timeout=None)
    assert answers == [None]


@on_postgres
async def test_a_rivals_row(engine: AsyncEngine) -> None:
    """The INSERT waits no longer than it may, and nothing of that setting is left."""
    lane = tags(engine)
    async with engine.connect() as rival:
        await rival.execute(text("INSERT INTO tag (name) VALUES ('a')"))
        asks = [*asked("b"), *asked("a")]
        async with asyncio.timeout(10):
            answers = await lane.find_or_insert_many(asks, lock_timeout=0.05)
        assert answers == [None, None]
        task = asyncio.create_task(lane.find_or_insert_many(asks, lock_timeout=None))
        await blocked(engine)
        await rival.commit()
    assert told(lane, await task) == [("b", True), ("a", False)]
    async with engine.connect() as connection:
        assert (await connection.execute(text("SHOW lock_timeout"))).scalar() == "0"


@on_postgres
@pytest.mark.parametrize("verb", ["find", "insert", "many"])
async def test_killed(engine: AsyncEngine, verb: str) -> None:
    """Where the connection breaks, a session reads, and an INSERT is unknown."""
    lane = tags(engine)
    await lane.find({"name": "a"})
    lock = "INSERT INTO tag (name) VALUES ('a')"
    work = lane.insert({"name": "a"}, {})
    if verb == "many":
        work.close()
        asks = [*asked("a"), Ask({"name": "b"}, None)]
        work = lane.find_or_insert_many(asks, lock_timeout=None)
    if verb == "find":
        work.close()
        work, lock = lane.find({"name": "a"}), "LOCK TABLE tag"
    async with engine.connect() as rival:
        await rival.execute(text(lock))
        task = asyncio.create_task(work)
        pid = await blocked(engine)
        await rival.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        [result] = await asyncio.gather(task, return_exceptions=True)
        await rival.rollback()
    if verb == "find":
        assert result is None
    else:
        error = result[0] if verb == "many" else result
        assert isinstance(error, OutcomeUnknownError)
        assert error.__cause__ is not None
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert await lane.find({"name": "a"}) in {MISSING, None}


@on_postgres
@pytest.mark.parametrize("verb", ["find", "insert", "many"])
async def test_no_connection(url: str, verb: str) -> None:
    """Where there is no server, a session says so."""
    engine = create_async_engine(make_url(url).set(port=1))
    lane = tags(engine)
    asks = asked("a", "b")
    calls = {
        "find": lambda: lane.find({"name": "a"}),
        "insert": lambda: lane.insert({"name": "a"}, {}),
        "many": lambda: lane.find_or_insert_many(asks, lock_timeout=1),
    }
    assert await calls[verb]() == ([None, None] if verb == "many" else None)
    await engine.dispose()


@pytest.mark.parametrize("is_late", [False, True], ids=["in_time", "late"])
@pytest.mark.parametrize("by", ["task", "scope"])
@pytest.mark.parametrize("verb", ["find", "insert", "many"])
async def test_cancelled(
    engine: AsyncEngine, verb: str, by: str, *, is_late: bool
) -> None:
    """Wherever a call is cancelled, no connection is kept, and the next call works."""
    lane = tags(engine)
    await lane.find({"name": "a"})  # There is a connection.
    for number in range(1, 40):
        calls: dict[str, Any] = {
            "find": lambda: lane.find({"name": "a"}),
            "insert": lambda n=f"{number}": lane.insert({"name": n}, {}),
            "many": lambda n=f"{number}": lane.find_or_insert_many(
                asked(n, "x"), lock_timeout=None
            ),
        }
        scope, steps = anyio.CancelScope(), None

        async def call(
            number: int = number, calls: Any = calls, scope: Any = scope
        ) -> Any:
            nonlocal steps
            own: Any = asyncio.current_task()
            with scope:
                cancel = own.cancel if by == "task" else scope.cancel
                steps = Steps(calls[verb](), cancel, number, is_late=is_late)
                return await steps

        own = asyncio.create_task(call())
        await asyncio.wait([own])
        assert own.cancelled() or own.exception() is None
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert await lane.find({"name": "a"}) in {MISSING, None}
        if steps is not None and steps.count < number:
            break
    else:
        raise AssertionError(number)


@on_postgres
async def test_a_cancelled_insert(engine: AsyncEngine) -> None:
    """The error says that the row may be there."""
    lane = tags(engine)
    await lane.find({"name": "a"})
    async with engine.connect() as rival:
        await rival.execute(text("INSERT INTO tag (name) VALUES ('a')"))
        for work in (
            lane.insert({"name": "a"}, {}),
            lane.find_or_insert_many(asked("a"), lock_timeout=None),
        ):
            task = asyncio.create_task(work)
            await blocked(engine)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert "may be there" in caught.value.__notes__[0]
            await blocked(engine, is_wanted=False)
        await rival.rollback()


@on_sqlite
@pytest.mark.parametrize("name", ["RUN", "CONNECTION", "NONE"])
async def test_hops(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without a private name of aiosqlite's, each statement is a hop of its own."""
    if name != "NONE":
        monkeypatch.setattr(hops, name, "nowhere")
    lane = tags(engine)
    asks = [*asked("a", "b"), Ask({"name": "a"}, None), *asked("c", colour="bad")]
    answers = await lane.find_or_insert_many(asks, lock_timeout=None)
    assert told(lane, answers) == [("a", True), ("b", True), ("a", False), None]


@on_sqlite
async def test_what_undoes_the_whole_transaction(engine: AsyncEngine) -> None:
    """A trigger that rolls back leaves every row of the batch to a session."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON tag WHEN new.name = 'c' "
            "BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
        )
    lane = tags(engine)
    answers = await lane.find_or_insert_many(asked("a", "b", "c"), lock_timeout=None)
    assert answers == [None, None, None]
    assert await lane.insert({"name": "c"}, {}) is None
    assert await count(engine) == 0


async def test_no_file() -> None:
    """A database that cannot be opened is a session's business."""

    async def refuse() -> None:
        raise sqlite3.OperationalError

    url: Any = "sqlite+aiosqlite:///no.db"
    engine = sqlite.configure(create_async_engine(url, async_creator=refuse))
    lane = tags(engine)
    assert await lane.find({"name": "a"}) is None
    assert await lane.insert({"name": "a"}, {}) is None
    assert await lane.find_or_insert_many(asked("a"), lock_timeout=None) == [None]
    await engine.dispose()
