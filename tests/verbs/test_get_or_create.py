"""The one call: what it returns, what it costs, and what it leaves alone."""

import asyncio
from typing import Any

import pytest
from backends import Sessions, before_sql, on_postgres, on_sqlite
from models import Author, Book, Review, Tag
from rows import count
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session

from async_goc import Policy, get_or_create
from async_goc._call.claim import _claim

unchecked = Policy(missing_constraint="ignore")


async def test_creates_then_finds(sessions: Sessions) -> None:
    """The first call creates the row; the second, elsewhere, returns it."""
    async with sessions.begin() as session:
        tag, created = await get_or_create(
            session, Tag, name="red", defaults={"colour": "f00"}
        )
        again, created_again = await get_or_create(session, Tag, name="red")
        assert again is tag
        assert (created, created_again) == (True, False)
    async with sessions() as session:
        tag, created = await get_or_create(
            session, Tag, name="red", defaults={"colour": "no"}
        )
        assert (tag.colour, created) == ("f00", False)


async def test_scoped_session(sessions: Sessions) -> None:
    """An async_scoped_session works like the session it stands for."""
    scoped = async_scoped_session(sessions, scopefunc=asyncio.current_task)
    _, created = await get_or_create(scoped, Tag, name="red")
    assert created
    await scoped.remove()


@on_sqlite
async def test_not_a_session(engine: AsyncEngine) -> None:
    """A sync session, or a sessionmaker, is refused by name."""
    with pytest.raises(TypeError, match="AsyncSession"):
        await get_or_create(engine, Tag, name="red")


async def test_never_commits(sessions: Sessions) -> None:
    """What the caller rolls back is gone, the created row included."""
    async with sessions() as session:
        await get_or_create(session, Tag, name="red")
        await session.rollback()
        assert await count(session, Tag) == 0


async def test_statements(
    session: AsyncSession, statements: list[str], strategy: str
) -> None:
    """A miss is four statements, or two; a hit is one."""
    guarded = ["SAVEPOINT", "INSERT", "RELEASE"]
    await get_or_create(session, Tag, name="red")
    assert statements == [
        "SELECT",
        *(guarded if strategy == "savepoint" else ["INSERT"]),
    ]
    statements.clear()
    await get_or_create(session, Tag, name="red")
    assert statements == ["SELECT"]


async def test_pending_row_is_found(sessions: Sessions) -> None:
    """A row that the caller has added, but not flushed, is the row."""
    async with sessions(autoflush=False) as session:
        mine = Tag(name="red")
        session.add(mine)
        tag, created = await get_or_create(session, Tag, name="red")
        assert tag is mine
        assert created is False


async def test_duplicates_in_the_table(sessions: Sessions) -> None:
    """Several matching rows are an error, with a note of what to do."""
    async with sessions.begin() as session:
        session.add_all([Review(stars=1), Review(stars=1)])
        with pytest.raises(MultipleResultsFound) as raised:
            await get_or_create(session, Review, stars=1, policy=unchecked)
        assert "Review match the lookup by stars" in raised.value.__notes__[0]


@before_sql
async def test_policy_as_a_lookup(session: AsyncSession) -> None:
    """A value for a column named policy is sent to where it belongs."""
    with pytest.raises(TypeError, match=r"give Tag.policy == value as a positional"):
        await get_or_create(session, Tag, policy="x")


@before_sql
async def test_no_lookup(session: AsyncSession, statements: list[str]) -> None:
    """Nothing to look up by would match any row."""
    with pytest.raises(ValueError, match="no lookup for Tag"):
        await get_or_create(session, Tag, defaults={"name": "red"})
    assert not statements


async def test_one_session_in_two_tasks(session: AsyncSession) -> None:
    """A second task in the same session gets a clear error; the first goes on."""
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> dict[str, str]:
        inside.set()
        await leave.wait()
        return {}

    first = asyncio.create_task(get_or_create(session, Tag, name="red", defaults=slow))
    await inside.wait()
    with pytest.raises(InvalidRequestError, match="another task"):
        await get_or_create(session, Tag, name="red")
    leave.set()
    _, created = await first
    assert created
    await get_or_create(session, Tag, name="red")


async def test_nested_call_that_outlives_the_outer_one(session: AsyncSession) -> None:
    """A nested call in a task of its own does not lock the session for ever."""
    inside, leave = asyncio.Event(), asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def slow() -> dict[str, Any]:
        inside.set()
        await leave.wait()
        return {}

    async def fail() -> dict[str, Any]:
        nested = get_or_create(session, Tag, name="inner", defaults=slow)
        tasks.append(asyncio.create_task(nested))
        await inside.wait()
        raise LookupError

    with pytest.raises(LookupError):
        await get_or_create(session, Tag, name="outer", defaults=fail)
    leave.set()
    await tasks[0]
    _, created = await get_or_create(session, Tag, name="outer")
    assert created


@on_sqlite
async def test_each_call_starts_the_next(sessions: Sessions) -> None:
    """Tasks that calls start, one after the other, keep no calls that have ended.

    Fails without `_running` in `claim_session`.
    """
    claims: list[Any] = []

    async def run(number: int) -> list[asyncio.Task[Any]]:
        following: list[asyncio.Task[Any]] = []

        def start() -> dict[str, Any]:
            following.append(asyncio.create_task(run(number + 1)))
            return {}

        async with sessions() as session:
            defaults = start if number < 9 else None
            await get_or_create(session, Tag, name=str(number), defaults=defaults)
        claims.append(_claim.get())
        return following

    tasks = [asyncio.create_task(run(0))]
    while tasks:
        tasks = await tasks[0]
    kept = [claims[-1]]
    while kept[-1].around is not None:
        kept.append(kept[-1].around)
    assert len(claims) == 10
    assert len(kept) <= 2


async def test_nested_call(session: AsyncSession) -> None:
    """A factory may call get_or_create on the same session, in a task of its own."""

    async def with_author(**values: Any) -> Book:
        nested = get_or_create(session, Author, name="Ann")
        author, _ = await asyncio.create_task(nested)
        return Book(author=author, **values)

    async def defaults() -> dict[str, Any]:
        author, _ = await get_or_create(session, Author, name="Bob")
        return {"author": author}

    policy = unchecked
    book, created = await get_or_create(
        session, Book, title="one", factory=with_author, policy=policy
    )
    assert created
    assert book.author.name == "Ann"
    book, created = await get_or_create(
        session, Book, title="two", defaults=defaults, policy=policy
    )
    assert (created, book.author.name) == (True, "Bob")


@on_postgres
async def test_cancelled_while_the_database_waits(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """Cancellation goes through; afterwards nothing is held, and a call succeeds."""
    async with sessions() as rival:
        await get_or_create(rival, Tag, name="red")
        async with sessions() as session:
            # The INSERT waits for the rival's transaction, in the database.
            call = get_or_create(session, Tag, name="red", policy=Policy(locks=None))
            task = asyncio.create_task(call)
            async with engine.connect() as watcher:
                await _until_someone_waits(watcher)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await session.rollback()
            assert not session.new
        await rival.rollback()
    async with sessions() as session:
        _, created = await get_or_create(session, Tag, name="red")
        assert created
    assert engine.sync_engine.pool.checkedout() == 0


async def _until_someone_waits(connection: Any) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not await connection.scalar(waiting):
        await connection.rollback()
