"""Misses that are expected: one statement finds the row, or else inserts it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import creators
import pytest
from backends import on_postgres
from directs import direct
from models import Tag
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import Event, Outcome, Policy
from async_goc._own.asks import Ask
from async_goc._own.direct import MISSING, Direct
from async_goc.exceptions import OutcomeUnknownError

pytestmark = on_postgres

BLOCKED = text(
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
    "AND datname = current_database()"
)


async def expecting(engine: AsyncEngine, model: Any = Tag, *defaults: str) -> Any:
    """A lane whose last call, and whose last batch, has inserted all of its rows."""
    lane = direct(engine, model, "name", defaults=defaults)
    await lane.insert({"name": "first"}, {})
    await many(lane, "second", "third")
    assert expects(lane) == (True, True)
    return lane


def expects(lane: Any) -> tuple[bool, bool]:
    return lane.expects_miss, lane._arrays._expects_misses


async def one(lane: Any, name: str, **defaults: Any) -> Any:
    row, is_new = await lane.find_or_insert({"name": name}, defaults, lock_timeout=5)
    if row is None or row is MISSING:
        return row
    return lane.instance(row, is_created=is_new).name, is_new


async def many(lane: Any, *names: Any, **defaults: Any) -> list[Any]:
    asks = [Ask({"name": name}, defaults) for name in names]
    return await asked(lane, asks)


async def asked(lane: Any, asks: list[Any]) -> list[Any]:
    answers = await lane.find_or_insert_many(asks, lock_timeout=5)
    return [
        (lane.instance(each[0], is_created=each[1]).name, each[1])
        if isinstance(each, tuple)
        else each
        for each in answers
    ]


async def execute(engine: AsyncEngine, *statements: str) -> Any:
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


async def blocked(engine: AsyncEngine) -> int:
    """Wait for a connection that waits for a lock; return its process."""
    async with asyncio.timeout(10):
        while True:
            # In one transaction, this would not change.
            async with engine.begin() as connection:
                for pid in await connection.scalars(BLOCKED):
                    return int(pid)


class Base(DeclarativeBase):
    pass


called: list[str] = []


class Counted(Base):
    """Its key is of a sequence, and a trigger notes each row."""

    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int] = mapped_column(default=1)


class Calling(Base):
    """A default of its own is a function."""

    __tablename__ = "calling"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    word: Mapped[str] = mapped_column(default=lambda: called.append("") or "word")


@pytest.fixture
async def counted(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await execute(
        engine,
        "CREATE TABLE noted (name text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO noted VALUES (NEW.name); RETURN NEW; END'",
        "CREATE TRIGGER note BEFORE INSERT ON counted "
        "FOR EACH ROW EXECUTE FUNCTION note()",
    )
    yield engine
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await execute(engine, "DROP TABLE noted", "DROP FUNCTION note")


async def test_a_hit_is_none_of_the_tables_business(counted: AsyncEngine) -> None:
    """No number of a sequence is lost, no trigger fires, and the next call looks.

    Fails without `is_not` in `Inserts._compile`, and without `is_not_among` in
    `Inserts._compile_many`.
    """
    lane = await expecting(counted, Counted)
    for _ in range(3):
        assert await one(lane, "first") == ("first", False)
        assert await many(lane, "first", "second") == [
            ("first", False),
            ("second", False),
        ]
        assert expects(lane) == (False, False)
        lane.expects_miss = lane._arrays._expects_misses = True
    assert await execute(counted, "SELECT last_value FROM counted_id_seq") == 3
    assert await execute(counted, "SELECT count(*) FROM noted") == 3
    assert await one(lane, "x") == ("x", True)
    assert await many(lane, "a", "x", "b") == [("a", True), ("x", False), ("b", True)]
    assert expects(lane) == (True, True)
    assert await execute(counted, "SELECT last_value FROM counted_id_seq") == 6


@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_functions_are_for_misses_only(counted: AsyncEngine, way: str) -> None:
    """A default that is a function, the caller's or the model's, is called once a row.

    Fails without `is_called` in `Inserts._sort_columns`, and without `plain_defaults`
    in `_ask`.
    """
    creator = creators.make(counted, way)
    called.clear()

    def word() -> str:
        called.append("")
        return "another"

    for defaults in ({}, {"word": word}):
        for name in "abab":
            await creator.get_or_create(Calling, name=f"{name}{len(defaults)}")
            await creator.get_or_create(
                Calling, name=f"{name}{len(defaults)}", defaults=defaults
            )
    assert len(called) == await creators.count(counted, Calling) == 4
    await creator.get_or_create(Tag, name="a")
    for name in "ba":
        call = creator.get_or_create(Tag, name=name, defaults=lambda: {"slug": word()})
        tag, created = await call
        assert (tag.slug, created) == (
            ("another", True) if name == "b" else (None, False)
        )
    assert len(called) == 5


async def test_rows_that_are_there_and_others(engine: AsyncEngine) -> None:
    """Each call of a batch has its own row, whichever of them was there before."""
    lane = await expecting(engine, Tag, "colour")
    asks = [
        Ask({"name": "first"}, {"colour": "red"}),
        Ask({"name": "c"}, None),
        Ask({"name": "b"}, None),
        Ask({"name": "b"}, {"colour": "red"}),
        Ask({"name": "a"}, {"colour": "red"}),
        Ask({"name": "b"}, {}),
        Ask({"name": "second"}, None),
        Ask({"name": "e"}, {"colour": None}),
    ]
    assert await asked(lane, asks) == [
        ("first", False),
        None,
        ("b", False),
        ("b", True),
        ("a", True),
        ("b", False),
        ("second", False),
        ("e", True),
    ]


async def test_a_row_that_is_refused(engine: AsyncEngine) -> None:
    """A call with a bad default has its row if that is there, and spoils no other's."""
    lane = await expecting(engine, Tag, "colour")
    assert await one(lane, "first", colour="bad") == ("first", False)
    lane.expects_miss = True
    assert await one(lane, "x", colour="bad") is None
    assert not lane.expects_miss
    asks = [Ask({"name": name}, {"colour": "red"}) for name in "abcd"]
    asks[1] = Ask({"name": "b"}, {"colour": "bad"})
    asks[2] = Ask({"name": "first"}, {"colour": "bad"})
    assert await asked(lane, asks) == [
        ("a", True),
        None,
        ("first", False),
        ("d", True),
    ]
    # No array takes both of these.
    lane._arrays._expects_misses = True
    mixed = [Ask({"name": n}, {"colour": c}) for n, c in (("m", "red"), ("n", 5))]
    assert await asked(lane, mixed) == [None, None]
    # Others may fare better.
    assert await one(lane, "x", colour="red") == ("x", True)
    assert expects(lane) == (True, False)
    for bad in ("b\0", "b\ud800", None, text("x")):
        assert await one(lane, bad) is None  # type: ignore[arg-type]


async def test_what_is_refused_is_sent_once(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session says at once what is wrong, after no second INSERT past it.

    Fails without `MISSING` in `_find_or_insert`.
    """
    creator = creators.make(engine)
    await creator.get_or_create(Tag, name="a", defaults={"colour": "red"})
    inserted: list[object] = []
    monkeypatch.setattr(Direct, "insert", inserted.append)
    with pytest.raises(DBAPIError):
        await creator.get_or_create(Tag, name="b", defaults={"colour": "bad"})
    assert not inserted


async def test_another_constraint(engine: AsyncEngine) -> None:
    """A row that conflicts by another column is left to a session, in a few steps."""
    lane = await expecting(engine, Tag, "slug")
    row, is_new = await lane.find_or_insert({"name": "w"}, {}, lock_timeout=None)
    assert (lane.instance(row, is_created=is_new).name, is_new) == ("w", True)
    assert await one(lane, "x", slug="s") == ("x", True)
    assert await one(lane, "y", slug="s") is MISSING
    asks = [Ask({"name": n}, {"slug": s}) for n, s in (("a", "a"), ("b", "s"))]
    assert await asked(lane, [*asks, *asks[:1]]) == [("a", True), None, ("a", False)]


@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_a_rival_that_commits(engine: AsyncEngine, way: str) -> None:
    """Its row is in no snapshot of the statement, and is found by another look."""
    events: list[Event] = []
    creator = creators.make(engine, way, policy=Policy(observer=events.append))
    for name in "abc":
        await creator.get_or_create(Tag, name=name)
    async with engine.connect() as rival:
        await rival.execute(text("INSERT INTO tag (name, colour) VALUES ('x', 'red')"))
        call = asyncio.create_task(creator.get_or_create(Tag, name="x"))
        await blocked(engine)
        await rival.commit()
    tag, created = await call
    assert (tag.colour, created) == ("red", False)
    told = [(each.outcome, each.attempts) for each in events]
    missed = (Outcome.LOST_RACE, 1) if way == "direct" else (Outcome.HIT, 0)
    assert told == [(Outcome.CREATED, 1)] * 3 + [missed]
    assert await creator.get_or_create(Tag, name="y")


async def test_a_rival_that_takes_too_long(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait has an end, there is only one, and the next call may be a miss again.

    Fails without `only_find` in `Arrays._find_or_insert`.
    """
    lane = await expecting(engine)
    prepare, prepared = lane._inserts.prepare_many, list[Any]()

    def counted(*args: Any, **how: Any) -> Any:
        prepared.append(how)
        return prepare(*args, **how)

    monkeypatch.setattr(lane._inserts, "prepare_many", counted)
    async with engine.connect() as rival:
        await rival.execute(text("INSERT INTO tag (name) VALUES ('x')"))
        row = await lane.find_or_insert({"name": "x"}, {}, lock_timeout=0.01)
        assert row == (None, False)
        asks = [Ask({"name": "x"}, {})]
        assert await lane.find_or_insert_many(asks, lock_timeout=0.01) == [None]
    assert prepared == [{"finds": True}]
    assert await lane.insert({"name": "y"}, {})
    assert await many(lane, "z") == [("z", True)]
    assert expects(lane) == (True, True)


@pytest.mark.usefixtures("engine")
async def test_a_database_that_is_read_only(url: str) -> None:
    """Rows are found there, and nothing that could be refused is sent again.

    Fails without `is_lasting` in `Direct._write`, and without `is_lasting` in
    `Arrays._send`.
    """
    single = create_async_engine(url, pool_size=1, max_overflow=0)
    creator = creators.make(single)
    lane = await expecting(single)
    for name in "ab":
        await creator.get_or_create(Tag, name=name)
    for is_on in ("on", "off"):
        async with single.connect() as connection:
            setting = f"SET SESSION default_transaction_read_only = {is_on}"
            await connection.execute(text(setting))
            await connection.commit()
        if is_on == "on":
            assert await one(lane, "first") is None
            assert await many(lane, "first") == [("first", False)]
            assert await creator.get_or_create(Tag, name="a")
    assert await lane.insert({"name": "x"}, {})
    assert await many(lane, "y", "z") == [("y", True), ("z", True)]
    assert expects(lane) == (False, False)
    await single.dispose()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_a_connection_that_ended_in_the_pool(url: str, way: str) -> None:
    """Nothing was sent on it, so the call has its answer by another one.

    Fails without `_has_ended` in `_send_by_cursor`.
    """
    single = create_async_engine(url, pool_size=1, max_overflow=0)
    other = create_async_engine(url)
    creator = creators.make(single, way)
    for number in range(2):
        names = ["a", "b"] if number else ["a", "c"]
        await asyncio.gather(*(creator.get_or_create(Tag, name=f"x{n}") for n in names))
        made = [creator.get_or_create(Tag, name=f"{number}{n}") for n in names]
        assert all(is_new for _, is_new in await asyncio.gather(*made))
        async with single.connect() as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        await execute(other, f"SELECT pg_terminate_backend({pid}, 10000)")
        found = [creator.get_or_create(Tag, name=f"{number}{n}") for n in names]
        assert not any(is_new for _, is_new in await asyncio.gather(*found))
    await single.dispose()
    await other.dispose()


@pytest.mark.parametrize("is_many", [False, True], ids=["one", "many"])
async def test_a_connection_that_breaks(engine: AsyncEngine, is_many: bool) -> None:
    """Whether there is a new row, nobody knows, and the call says so."""
    lane = await expecting(engine)
    async with engine.connect() as rival:
        await rival.execute(text("INSERT INTO tag (name) VALUES ('x')"))
        call = many(lane, "w", "x") if is_many else one(lane, "x")
        task = asyncio.create_task(call)
        pid = await blocked(engine)
        await rival.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        [result] = await asyncio.gather(task, return_exceptions=True)
    for error in result if is_many else [result]:
        assert isinstance(error, OutcomeUnknownError)
        assert error.__cause__ is not None
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.usefixtures("engine")
async def test_a_connection_that_breaks_afterwards(url: str, other: Engine) -> None:
    """A row is new, and another was skipped: if that cannot be told, it is said.

    Fails without `error` in `lose`.
    """
    single = create_async_engine(url, pool_size=1, max_overflow=0)
    lane = await expecting(single, Tag, "slug")
    async with single.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))

    def end(*_: object) -> None:
        with other.begin() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({pid}, 10000)"))

    event.listen(single.sync_engine, "checkin", end, once=True)
    asks = [Ask({"name": name}, {"slug": "s"}) for name in "ab"]
    for error in await asked(lane, asks):
        assert isinstance(error, OutcomeUnknownError)
    assert await asked(lane, asks) == [("a", False), None]
    await single.dispose()


async def test_a_batch_on_a_connection_that_ended(
    engine: AsyncEngine, url: str
) -> None:
    """Nothing was sent, so the rows are looked for and inserted together all the same.

    Fails without `is_passing` in `Arrays._find_or_insert`.
    """
    single = create_async_engine(url, pool_size=1, max_overflow=0)
    lane = await expecting(single)
    async with single.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
    await execute(engine, f"SELECT pg_terminate_backend({pid}, 10000)")
    assert await many(lane, "a", "second", "b") == [
        ("a", True),
        ("second", False),
        ("b", True),
    ]
    await single.dispose()
