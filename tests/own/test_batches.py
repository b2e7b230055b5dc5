"""Concurrent calls for different rows, answered by one set of statements."""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from traceback import extract_tb
from typing import Any

import creators
import pytest
from backends import on_postgres, on_sqlite
from models import Author, Pen, Tag
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError, TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from steps import Steps
from waiting import until

from async_goc import Batch, Event, GetOrCreator, Outcome, Policy, get_or_create


async def test_many_rows_at_once(engine: AsyncEngine) -> None:
    """1,000 calls at once, half for rows that are there: each has its own row.

    They take a few connections, one after the other, and not one each.
    Fails without `is_open` in `find_or_create`, and without `Queue`.
    """
    creator = creators.make(engine, batch=Batch())
    names = [f"name {number}" for number in range(1000)]
    await creator.get_or_create_many(Tag, names[::2], key="name")
    taken = creators.taken(engine)
    results = await creators.at_once(
        creator.get_or_create(Tag, name=name, defaults={"colour": name[-1]})
        for name in names
    )
    assert [tag.name for tag, _ in results] == names
    assert [created for _, created in results] == [False, True] * 500
    assert [tag.colour for tag, _ in results[1::2]] == [n[-1] for n in names[1::2]]
    assert len({tag.id for tag, _ in results}) == 1000
    assert len(taken) <= 20
    assert await creators.count(engine, Tag) == 1000


async def test_a_bad_row_fails_alone(engine: AsyncEngine) -> None:
    """Of 100 rows, one that a CHECK refuses has its own error, and 99 are created.

    It is found by halves, and the others are not asked for one by one.
    Fails without `middle` in `halves`.
    """
    creator = creators.make(engine, "batch")

    def defaults(number: int) -> Mapping[str, Any]:
        return {"colour": "bad" if number == 41 else "good"}

    taken = creators.taken(engine)
    results = await creators.at_once(
        creator.get_or_create(Tag, name=f"{number}", defaults=defaults(number))
        for number in range(100)
    )
    assert len(taken) < 30
    error = results.pop(41)
    assert isinstance(error, IntegrityError)
    assert "good_colour" in f"{error}{error.__notes__}"
    assert [created for _, created in results] == [True] * 99


@on_sqlite
async def test_what_python_refuses_fails_alone(engine: AsyncEngine) -> None:
    """A value that cannot be converted spoils neither a batch nor a connection.

    Fails without `Exception` in `_work`, and without `UnicodeError` in
    `_is_aiosqlite_alive`.
    """
    creator, invalidated = creators.make(engine, "batch"), list[object]()
    event.listen(engine.sync_engine, "invalidate", lambda *a: invalidated.append(a))
    taken, half = creators.taken(engine), "\ud800"
    results = await creators.at_once(
        [
            creator.get_or_create(Tag, name=half),
            creator.get_or_create(Tag, name="x", defaults={"colour": half}),
            *(creator.get_or_create(Tag, name=f"{n}") for n in range(50)),
        ]
    )
    assert [type(each) for each in results[:2]] == [UnicodeEncodeError] * 2
    assert [created for _, created in results[2:]] == [True] * 50
    assert not invalidated
    assert len(taken) < 20


async def test_defaults_of_the_model(engine: AsyncEngine) -> None:
    """What makes a column's default is called in its call's context, and fails alone.

    Fails without `context` in `Inserts._completed`.
    """
    user = ContextVar("user", default="nobody")

    def signer() -> str:
        if user.get() == "b":
            raise LookupError
        return user.get()

    class Base(DeclarativeBase):
        pass

    class Signed(Base):
        __tablename__ = "signed"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        by: Mapped[str] = mapped_column(default=signer)

    class Made(MappedAsDataclass, Base, kw_only=True):
        __tablename__ = "made_by"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(unique=True)
        by: Mapped[str] = mapped_column(default_factory=signer)

    async def call(model: Any, name: str) -> Any:
        user.set(name)
        return await creator.get_or_create(model, name=name)

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    creator = creators.make(engine, "batch")
    for model in (Signed, Made):
        results = await creators.at_once(call(model, name) for name in "abcd")
        assert "LookupError" in f"{results.pop(1)!r}"
        assert [row.by for row, _ in results] == ["a", "c", "d"]
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


LOOSE = """
    DROP SCHEMA IF EXISTS loose CASCADE;
    CREATE SCHEMA loose;
    CREATE FUNCTION loose.equal(varchar, varchar) RETURNS bool LANGUAGE sql AS
        $$ SELECT lower($1) OPERATOR(pg_catalog.=) lower($2) $$;
    CREATE OPERATOR loose.= (
        leftarg = varchar, rightarg = varchar, function = loose.equal
    );
    CREATE TABLE loose.loose (id SERIAL PRIMARY KEY, name VARCHAR);
    CREATE UNIQUE INDEX ON loose.loose (lower(name))
"""


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_a_looser_database(url: str, tables: Engine) -> None:
    """Where the database takes more for equal than the model says, one call creates.

    (Most such databases have a collation that ignores case; not every server can.)
    Fails without `discard` in `Arrays._found`.
    """

    class Base(DeclarativeBase):
        pass

    class Loose(Base):
        __tablename__ = "loose"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)

    with tables.begin() as connection:
        connection.exec_driver_sql(LOOSE)
    path = {"search_path": "loose,pg_catalog"}
    engine = create_async_engine(url, connect_args={"server_settings": path})
    creator = creators.make(engine, "batch")
    results = await creators.at_once(
        creator.get_or_create(Loose, name=name) for name in ("Ann", "ANN", "ann", "Bob")
    )
    assert len({row.id for row, _ in results}) == 2
    assert sum(created for _, created in results) == 2
    await engine.dispose()
    with tables.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA loose CASCADE")


@on_postgres
async def test_a_pool_without_connections(url: str) -> None:
    """Each call of the batch raises what the pool says, and none has others' frames.

    Fails without `PoolTimeoutError`.
    """
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    creator = creators.make(engine, batch=Batch(max_delay=0.01))
    async with engine.connect():
        errors: list[Any] = await creators.at_once(
            creator.get_or_create(Tag, name=name) for name in "abcdefgh"
        )
    await engine.dispose()
    assert {type(error) for error in errors} == {PoolTimeoutError}
    for error in errors:
        names = [frame.name for frame in extract_tb(error.__traceback__)]
        assert names.count("get_or_create") == 1


async def test_another_constraint(engine: AsyncEngine) -> None:
    """Of two new rows with one slug, one fails, with the constraint's name.

    Fails without `LEAVE_BATCH` in `Queue._answer`: it would be asked for without end.
    """
    creator = creators.make(engine, "batch")
    async with asyncio.timeout(10):
        results = await creators.at_once(
            creator.get_or_create(Tag, name=name, defaults={"slug": slug})
            for name, slug in [("a", "s"), ("b", "s"), ("c", "t")]
        )
    errors = [each for each in results if isinstance(each, Exception)]
    assert [type(error) for error in errors] == [IntegrityError]
    assert "slug" in str(errors[0].__notes__)
    assert await creators.count(engine, Tag) == 2


async def test_a_cancelled_call_leaves_the_batch(engine: AsyncEngine) -> None:
    """One call is cancelled in the queue: it asks for nothing, and 98 have a row.

    Fails without `is_deserted` in `Queue._take`.
    """
    creator = creators.make(engine, batch=Batch(max_delay=60, max_size=99))
    tasks = [
        asyncio.create_task(creator.get_or_create(Tag, name=f"{number}"))
        for number in range(98)
    ]
    gone = asyncio.create_task(creator.get_or_create(Tag, name="gone"))
    await until(lambda: "98 queued" in f"{creator!r}" or "99 queued" in f"{creator!r}")
    gone.cancel()
    results = await asyncio.gather(*tasks)
    assert [created for _, created in results] == [True] * 98
    assert await creators.count(engine, Tag) == 98
    with pytest.raises(asyncio.CancelledError):
        await gone


@pytest.mark.parametrize("is_late", [None, False, True])
async def test_a_full_queue(engine: AsyncEngine, is_late: bool | None) -> None:
    """Four batches wait in the queue, and calls wait for room: all in their order.

    One of these is cancelled (or none): at once, or in the turn in which it gets room.
    Fails without `_places` in `Queue.put`, without `popleft` in `Queue._take`, without
    `_make_room` in `Queue._take`, and without it in `Queue._wait_for_place`.
    """
    creator = creators.make(engine, batch=Batch(max_size=2))
    done: list[int] = []

    async def ask(number: int) -> None:
        call = creator.get_or_create(Tag, name=f"{number}")
        if number == 15 and is_late is not None:
            me = asyncio.current_task()
            assert me is not None
            await Steps(call, me.cancel, 1, is_late=is_late)
        else:
            await call
        done.append(number)

    for start in (0, 100):
        alone = asyncio.create_task(ask(start + 50))
        await until(lambda: "1 calls" in repr(creator))
        tasks = [asyncio.create_task(ask(start + number)) for number in range(20)]
        await asyncio.sleep(0)
        assert repr(creator) == "<GetOrCreator: 21 calls under way, 8 queued>"
        async with asyncio.timeout(10):
            results = await asyncio.gather(alone, *tasks, return_exceptions=True)
        is_cut = start == 0 and is_late is not None
        errors = [each for each in results if each is not None]
        assert [type(error) for error in errors] == [asyncio.CancelledError] * is_cut
        done.remove(start + 50)
        numbers = [*range(start, start + 20)]
        assert done == [n for n in numbers if n != 15 or not is_cut]
        done.clear()


@on_postgres
async def test_a_rival_does_not_stop_the_batch(engine: AsyncEngine) -> None:
    """A transaction that holds a row of the batch, and waits for another one of it.

    Fails without `bounded_wait` in `Inserts._compile_many`: each would wait for ever.
    """
    creator = creators.make(engine, "batch", policy=Policy(wait_timeout=0.1))
    sessions = async_sessionmaker(engine)
    async with asyncio.timeout(20):
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name="held")
            held = asyncio.create_task(creator.get_or_create(Tag, name="held"))
            _, created = await creator.get_or_create(Tag, name="other")
            assert created
            assert not held.done()
        tag, created = await held
    assert (tag.name, created) == ("held", False)
    await creator.aclose()


async def test_names_in_any_order(engine: AsyncEngine) -> None:
    """Calls share statements, in whatever order each of them gives the same names.

    Fails without `sorted` in `Wanted._kind`, and without `frozenset` in it.
    """
    async with AsyncSession(engine) as session, session.begin():
        session.add(Author(id=-1, name="Ann"))
    creator = creators.make(engine, "batch")
    pens = [{"author_id": -1, "colour": "a"}, {"colour": "b", "author_id": -1}]
    tags = [{"colour": "c", "slug": "d"}, {"slug": "e", "colour": "f"}]
    for calls in (
        [creator.get_or_create(Pen, **pen, defaults={"length": 1}) for pen in pens],
        [creator.get_or_create(Tag, name=t["slug"], defaults=t) for t in tags],
    ):
        taken = creators.taken(engine)
        results = await creators.at_once(calls)
        assert [created for _, created in results] == [True, True]
        assert len(taken) == 2


@on_postgres
async def test_the_first_call_waits_for_company(engine: AsyncEngine) -> None:
    """Where several came at once, all of the next ones share one statement.

    Fails without `_had_company` in `Queue._is_idle`.
    """
    creator = creators.make(engine, "batch", batch=Batch())
    taken = creators.taken(engine)
    counts: list[int] = []
    for number, size in enumerate([5, 5, 5, 1, 1, 5]):
        before = len(taken)
        calls = [
            creator.get_or_create(Tag, name=f"{number}{place}") for place in range(size)
        ]
        assert all(created for _, created in await creators.at_once(calls))
        counts.append(len(taken) - before)
    # The first call alone, and a batch, both with a SELECT and an INSERT; batches; a
    # batch of one; and calls by themselves, the last of them beside a batch.
    assert counts == [4, 1, 1, 1, 1, 2]


async def test_a_listener_that_comes_meanwhile(engine: AsyncEngine) -> None:
    """It hears of all that is queued, and of what comes while it is there.

    Fails without `direct` in `Queue._answer`, and without `direct` in `Queue.is_open`.
    """
    events: list[Event] = []
    policy, batch = Policy(observer=events.append), Batch(max_delay=60, max_size=4)
    creator = creators.make(engine, batch=batch, policy=policy)

    def call(name: str) -> Any:
        return asyncio.create_task(creator.get_or_create(Tag, name=name))

    calls = [call(name) for name in "abc"]
    await until(lambda: "3 queued" in f"{creator!r}")
    event.listen(engine.sync_engine, "before_cursor_execute", creators.heed)
    calls.append(call("d"))
    async with asyncio.timeout(10):
        await asyncio.gather(*calls)
        await call("e")
    assert [each.lane for each in events] == ["session"] * 5
    assert [each.outcome for each in events] == [Outcome.CREATED] * 5


@on_postgres
async def test_calls_wait_as_their_own_policies_say(engine: AsyncEngine) -> None:
    """A call that may wait for ever does not make the next ones do so.

    Fails without `wait_timeout` in `_limit`.
    """
    creator = creators.make(engine, "batch")
    await creator.get_or_create(Tag, name="c", policy=Policy(wait_timeout=None))
    soon = Policy(wait_timeout=0.05, locks=None)
    async with AsyncSession(engine) as rival:
        await get_or_create(rival, Tag, name="a")
        blocked, other = (
            asyncio.create_task(creator.get_or_create(Tag, name=name, policy=soon))
            for name in "ab"
        )
        async with asyncio.timeout(10):
            assert (await other)[1]
        assert not blocked.done()
        await rival.commit()
    assert not (await blocked)[1]


@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_tenants_by_context(engine: AsyncEngine, way: str) -> None:
    """What a listener to the pool tells apart by the caller's context stays apart.

    Fails without `namespace` in `UnderWay.queue_for`.
    """
    tenant, seen = ContextVar[str]("tenant", default="nobody"), set[str]()
    creator = creators.make(engine, way)

    async def ask(name: str) -> None:
        tenant.set(name)
        policy = Policy(namespace=name)
        await creator.get_or_create(Tag, name=name, policy=policy)

    event.listen(engine.sync_engine, "checkout", lambda *_: seen.add(tenant.get()))
    await creators.at_once(map(ask, "aabbcc"))
    assert seen == {"a", "b", "c"}


@on_postgres
async def test_no_setting_stays(engine: AsyncEngine) -> None:
    """What a batch sets for its own statement is gone with that."""
    creator = creators.make(engine, "batch")
    await creators.at_once(
        creator.get_or_create(Tag, name=f"{number}") for number in range(20)
    )
    async with AsyncSession(engine) as session:
        assert await session.scalar(text("SHOW lock_timeout")) == "0"


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"max_size": 0}, ValueError, "max_size is 0"),
        ({"max_size": 1.5}, TypeError, "max_size is of type float"),
        ({"max_delay": -1}, ValueError, "max_delay is -1"),
        ({"max_delay": "soon"}, TypeError, "max_delay is of type str"),
    ],
)
def test_bad_values(values: Any, error: type[Exception], message: str) -> None:
    """What makes no batch is refused where it is given."""
    with pytest.raises(error, match=message):
        Batch(**values)


def test_a_batch_is_a_value() -> None:
    """Batches of the same values are equal, and can be kept in a set."""
    assert {Batch(), Batch(max_size=500)} == {Batch(max_delay=0.0)}
    with pytest.raises(TypeError, match="batch is of type int"):
        GetOrCreator(async_sessionmaker(), batch=500)  # type: ignore[arg-type]
