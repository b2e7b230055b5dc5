"""A creator's verbs: committed on return, whatever becomes of the caller."""

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import creators
import pytest
from backends import on_postgres, on_sqlite
from models import Author, Book, Page, Tag
from sqlalchemy import NullPool, inspect, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import selectinload
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.sql.selectable import ForUpdateArg
from waiting import until

from async_goc import GetOrCreator, Policy, sqlite
from async_goc.exceptions import SnapshotConflictError

pytestmark = pytest.mark.one_driver

ways = pytest.mark.parametrize("way", ["direct", "session", "batch"])


@ways
async def test_committed_and_detached(engine: AsyncEngine, way: str) -> None:
    """What is created stays, although the caller's own transaction is rolled back."""
    creator = creators.make(engine, way)
    async with AsyncSession(engine) as session:
        await session.execute(select(Tag))
        if engine.dialect.name == "sqlite":
            await session.rollback()  # One transaction at a time can write.
        made, created = await creator.get_or_create(
            Tag, name="x", defaults={"colour": "red"}
        )
        await session.rollback()
    found, again = await creator.get_or_create(Tag, name="x")
    assert (created, again) == (True, False)
    for tag in (made, found):
        state = inspect(tag)
        assert state.detached
        assert not state.modified
        assert (tag.name, tag.colour, tag.slug) == ("x", "red", None)
        assert tag.made_at == made.made_at
        with pytest.raises(DetachedInstanceError):
            assert tag.note
    assert made is not found


@ways
async def test_a_detached_row_can_be_used_in_a_session(
    engine: AsyncEngine, way: str
) -> None:
    """It can be added, changed and read anew, as any detached object."""
    creator = creators.make(engine, way)
    for _ in range(2):
        tag, _ = await creator.get_or_create(Tag, name="x")
        async with AsyncSession(engine) as session, session.begin():
            session.add(tag)
            tag.colour = (tag.colour or "") + "!"
        async with AsyncSession(engine) as session:
            session.add(tag)
            await session.refresh(tag, ["note"])
            assert tag.note is None
    found, _ = await creator.get_or_create(Tag, name="x")
    assert found.colour == "!!"


@ways
async def test_the_other_verbs(engine: AsyncEngine, way: str) -> None:
    """Update, many, and update many, each in a transaction of its own."""
    creator = creators.make(engine, way)
    page, created = await creator.update_or_create(
        Page, name="x", defaults={"views": 1}, create_defaults={"views": 5}
    )
    assert (page.views, created) == (5, True)
    page, created = await creator.update_or_create(
        Page, name="x", defaults={"views": Page.views + 1}
    )
    assert (page.views, page.changes, created) == (6, 1, False)
    results = await creator.get_or_create_many(Tag, iter(["a", "b", "a"]), key="name")
    assert [(tag.name, created) for tag, created in results] == [
        *(("a", True), ("b", True), ("a", False))
    ]
    assert results[0][0] is results[2][0]
    rows = [{"name": "a", "colour": "red"}, {"name": "c", "colour": "blue"}]
    results = await creator.update_or_create_many(Tag, rows, key="name")
    assert [(tag.colour, created) for tag, created in results] == [
        *(("red", False), ("blue", True))
    ]
    assert all(inspect(tag).detached for tag, _ in results)
    assert await creators.count(engine, Tag) == 3


@ways
async def test_parents_of_anywhere(engine: AsyncEngine, way: str) -> None:
    """A parent may be detached, or in a session of the caller's: its row counts.

    Fails without `adopted` in `GetOrCreator._find_in_session`.
    """
    creator = creators.make(engine, way)
    ann, _ = await creator.get_or_create(Author, name="Ann")
    book, created = await creator.get_or_create(Book, author=ann, title="t")
    assert (book.author_id, created) == (ann.id, True)
    async with AsyncSession(engine) as session:
        bob = await session.get_one(Author, ann.id)
        await session.rollback()
        found, created = await creator.get_or_create(
            Book, author=bob, title="t", options=[selectinload(Book.author)]
        )
        assert (found.id, found.author.name, created) == (book.id, "Ann", False)
        assert bob in session
    rows: list[dict[str, Any]] = [{"author": ann, "title": f"{n}"} for n in range(3)]
    results = await creator.get_or_create_many(Book, rows, key=["author", "title"])
    assert {book.author_id for book, _ in results} == {ann.id}
    page, _ = await creator.get_or_create(Page, name="p", defaults={"author": ann})
    assert page.author_id == ann.id


@on_postgres
async def test_a_parent_must_be_committed(engine: AsyncEngine) -> None:
    """A row that only the caller's transaction sees is refused, and not waited for."""
    creator = creators.make(engine)
    async with AsyncSession(engine) as session:
        ann = Author(name="Ann")
        session.add(ann)
        await session.flush()
        with pytest.raises(ValueError, match="the Author that the call refers to has"):
            await creator.get_or_create(Book, author=ann, title="t")


@ways
async def test_functions_run_once(engine: AsyncEngine, way: str) -> None:
    """On a miss only, and once, also where a function returns functions.

    And once, too, if the transaction has to be run again.
    Fails without `results` in `_remembering`, and without `unevaluated` in
    `Wanted.in_session`.
    """
    creator = creators.make(engine, way)
    calls: list[str] = []

    def note(name: str, value: Any) -> Any:
        def called() -> Any:
            calls.append(name)
            return value

        return called

    inner = {"colour": note("inner", "red"), "slug": note("slug", "s")}
    for _ in range(2):
        tag, _ = await creator.get_or_create(
            Tag, name="x", defaults=note("outer", inner)
        )
        assert (tag.colour, tag.slug) == ("red", "s")
        await creator.get_or_create(Tag, name="y", defaults={"colour": inner["colour"]})
    assert calls == ["outer", "inner", "slug", "inner"]
    calls.clear()
    failures = iter([SnapshotConflictError(Tag, ["name"])])

    def conflict() -> str:
        for failure in failures:
            raise failure
        return "s"

    tag, created = await creator.update_or_create(
        Tag, name="x", defaults={"colour": note("colour", "blue"), "slug": conflict}
    )
    assert (tag.colour, created, calls) == ("blue", False, ["colour"])


@ways
async def test_closing(engine: AsyncEngine, way: str) -> None:
    """Closed while 100 calls are under way: all are answered, the pool has them all.

    Fails without `wait` in `OwnTransactions.aclose`.
    """
    async with creators.make(engine, way) as creator:
        tasks = [
            asyncio.create_task(creator.get_or_create(Tag, name=f"{number % 60}"))
            for number in range(100)
        ]
        await until(lambda: "100 calls" in repr(creator))
    assert all(task.done() for task in tasks)
    assert [task.result()[1] for task in tasks].count(True) == 60
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert "closed, 0 calls" in repr(creator)
    with pytest.raises(RuntimeError, match="this GetOrCreator is closed; make anoth"):
        await creator.get_or_create(Tag, name="x")
    await creator.aclose()


async def test_closing_waits_for_a_batch_of_cancelled_calls(
    engine: AsyncEngine,
) -> None:
    """The calls are cancelled, and their statement is on its way all the same.

    Fails without `_queues` in `UnderWay.wait`.
    """
    creator = creators.make(engine, "batch")
    tasks = [
        asyncio.create_task(creator.get_or_create(Tag, name=f"{number}"))
        for number in range(50)
    ]
    await until(engine.pool.checkedout)  # type: ignore[attr-defined]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await creator.aclose()
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@ways
async def test_one_connection_is_enough(url: str, way: str) -> None:
    """A pool of size 1 serves every verb, at once, and defaults that call in turn.

    Fails without `MissError` in `Wanted.in_session`.
    """
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=10)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine)
    creator = creators.make(engine, way)
    ann, _ = await creator.get_or_create(Author, name="Ann")

    async def nested() -> dict[str, Any]:
        tag, _ = await creator.get_or_create(Tag, name="nested")
        return {"slug": tag.name}

    calls: list[Any] = [
        creator.get_or_create(Tag, name=f"{number % 5}") for number in range(20)
    ]
    calls += [
        creator.update_or_create(Page, name="p", defaults={"views": 1}),
        creator.get_or_create_many(Tag, ["m", "n"], key="name"),
        creator.get_or_create(Book, author=ann, title="t"),
    ]
    calls.append(creator.get_or_create(Tag, name="y", defaults=nested))
    results = await creators.at_once(calls)
    assert not [each for each in results if isinstance(each, Exception)]
    await engine.dispose()


async def test_two_loops(url: str) -> None:
    """Threads, each with a loop, an engine and a creator of its own, ask at once."""
    results: list[bool] = []

    async def ask() -> None:
        engine = create_async_engine(url)
        if engine.dialect.name == "sqlite":
            sqlite.configure(engine)
        async with creators.make(engine, "batch") as creator:
            calls = (creator.get_or_create(Tag, name=f"{n % 10}") for n in range(40))
            results.extend(created for _, created in await asyncio.gather(*calls))
        await engine.dispose()

    threads = [threading.Thread(target=asyncio.run, args=[ask()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert (len(results), results.count(True)) == (80, 10)


@on_postgres
def test_one_creator_in_two_loops(url: str) -> None:
    """One creator whose engine has no pool, in the loops of two threads at once.

    Fails without `get` in `Loops.here`, if there is one for all loops.
    """
    creator = creators.make(create_async_engine(url, poolclass=NullPool), "batch")
    barrier = threading.Barrier(2)

    async def ask(name: str) -> list[bool]:
        calls = (creator.get_or_create(Tag, name=f"{name} {n % 10}") for n in range(40))
        async with asyncio.timeout(10):
            return [created for _, created in await asyncio.gather(*calls)]

    async def ask_at_once() -> list[bool]:
        await asyncio.to_thread(barrier.wait, 10)
        return await ask("second")

    # SQLAlchemy's engines connect for the first time in one loop.
    assert asyncio.run(ask("first")).count(True) == 10
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(asyncio.run, [ask_at_once(), ask_at_once()])
    assert (first + second).count(True) == 10


@on_sqlite
async def test_bad_arguments(engine: AsyncEngine) -> None:
    """What cannot work is refused where it is given, before any SQL."""
    sessions = async_sessionmaker(engine)
    with pytest.raises(TypeError, match="sessions is of type AsyncEngine"):
        GetOrCreator(engine)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts is 0"):
        GetOrCreator(sessions, attempts=0)
    with pytest.raises(TypeError, match="policy is of type dict"):
        GetOrCreator(sessions, policy={})  # type: ignore[arg-type]
    creator = GetOrCreator(sessions)
    with pytest.raises(TypeError, match=r"give Tag\.policy == value"):
        await creator.get_or_create(Tag, policy="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no lookup for Tag"):
        await creator.get_or_create(Tag)


@on_sqlite
async def test_whose_policy(engine: AsyncEngine) -> None:
    """The call's own policy counts, then the creator's, then the sessions'."""
    seen: list[str] = []

    def noting(name: str) -> Policy:
        return Policy(observer=lambda _: seen.append(name))

    sessions = async_sessionmaker(engine, info={"async_goc.policy": noting("session")})
    await GetOrCreator(sessions).get_or_create(Tag, name="x")
    creator = GetOrCreator(sessions, policy=noting("creator"))
    await creator.get_or_create(Tag, name="x")
    await creator.get_or_create(Tag, name="x", policy=noting("call"))
    assert seen == ["session", "creator", "call"]


@on_sqlite
async def test_sessions_that_are_configured_later(
    engine: AsyncEngine, file: Path, tmp_path: Path
) -> None:
    """Each call goes where a session made now would go, and as its policy says.

    Fails without `kw` in `OwnTransactions._probe`.
    """
    lanes: list[str | None] = []
    policy = Policy(observer=lambda event: lanes.append(event.lane))
    url = f"sqlite+aiosqlite:///{shutil.copy(file, tmp_path / 'other.db')}"
    other = sqlite.configure(create_async_engine(url))
    sessions = async_sessionmaker(engine)
    creator = GetOrCreator(sessions)
    await creator.get_or_create(Tag, name="x")
    sessions.configure(bind=other, info={"async_goc.policy": policy})
    _, created = await creator.get_or_create(Tag, name="x")
    assert created
    assert lanes == ["driver"]
    assert await creators.count(other, Tag) == 1
    await other.dispose()


@pytest.mark.parametrize("lock", [True, {}, {"nowait": True}, ForUpdateArg()])
async def test_locks_are_for_sessions(engine: AsyncEngine, lock: Any) -> None:
    """Every form in which a lock can be asked for is one; some have no truth value.

    Fails without `with_for_update` in `GetOrCreator.get_or_create`.
    """
    lanes: list[str | None] = []
    policy = Policy(observer=lambda event: lanes.append(event.lane))
    creator = creators.make(engine, policy=policy)
    for expected in (True, False):
        _, created = await creator.get_or_create(Tag, name="x", with_for_update=lock)
        assert created is expected
    assert lanes == ["session", "session"]
