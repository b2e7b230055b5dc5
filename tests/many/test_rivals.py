"""Many rows while others ask for the same ones."""

import asyncio
from typing import Any

import pytest
from backends import on_postgres
from by_ids import Many
from models import Author, Node, Tag
from rivals import on_lost, rival
from rows import count, named
from sqlalchemy import delete, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import selectinload
from waiting import until

from async_goc import (
    Event,
    KeyedLocks,
    Policy,
)
from async_goc.exceptions import (
    SnapshotConflictError,
)


@on_postgres
async def test_lost_race(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any], many: Many
) -> None:
    """A rival's rows are found, and not reported as created."""
    before_insert.append(rival(engine, Tag(name="b", colour="rival's")))
    events: list[Event] = []
    policy = Policy(observer=events.append)
    result = await many(session, Tag, named("a", "b", "c"), policy=policy)
    assert [created for _, created in result] == [True, False, True]
    assert result[1][0].colour == "rival's"
    before_insert.append(rival(engine, Tag(name="d")))
    await many(session, Tag, named("d", "a"), policy=policy)
    await many(session, Tag, named("d", "a"), policy=policy)
    outcomes = [(e.outcome, e.strategy, e.attempts) for e in events]
    assert outcomes == [
        ("created", "native", 1),
        ("lost_race", "native", 1),
        ("hit", "savepoint", 0),
    ]


@on_postgres
async def test_race_lost_with_options(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any], many: Many
) -> None:
    """The options are honoured, though the call has created nothing."""
    before_insert.append(rival(engine, Author(name="Ann")))
    options = [selectinload(Author.books)]
    rows = named("Ann")
    ((ann, created),) = await many(session, Author, rows, options=options)
    assert not created
    assert ann.books == []


@on_postgres
async def test_rival_that_vanishes(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any], many: Many
) -> None:
    """If the rival's row is gone when we look again, the call creates it."""

    async def vanish() -> None:
        async with AsyncSession(engine) as other, other.begin():
            await other.execute(delete(Tag))

    # The statement that skips a conflict returns fewer rows, and does not fail.
    before_insert.append(rival(engine, Tag(name="a")))
    async with on_lost(engine, vanish):
        result = await many(session, Tag, named("a"))
    assert result[0][1]


@on_postgres
async def test_beyond_the_snapshot(
    engine: AsyncEngine, before_insert: list[Any], many: Many
) -> None:
    """REPEATABLE READ: the rival's row cannot be seen, and the transaction goes on."""
    frozen = engine.execution_options(isolation_level="REPEATABLE READ")
    async with AsyncSession(frozen) as session:
        before_insert.append(rival(engine, Tag(name="a")))
        with pytest.raises(SnapshotConflictError):
            await many(session, Tag, named("a", "b"))
        assert await count(session) == 0


@on_postgres
async def test_unit_of_work_loses_a_race(
    engine: AsyncEngine,
    session: AsyncSession,
    before_insert: list[Any],
    statements: list[str],
    many: Many,
) -> None:
    """The rows that have no rival are inserted by one flush more, however many.

    Fails without `is_going_on` in `Bulk._insert`.
    """
    before_insert.append(rival(engine, Node(name="b")))
    result = await many(session, Node, named(*"abcdefgh"))
    assert [
        name for name, new in zip("abcdefgh", result, strict=True) if not new[1]
    ] == ["b"]
    # The call's, and one for each flush.
    assert statements.count("SAVEPOINT") == 3
    assert await count(session, Node) == 8


async def test_registry(engine: AsyncEngine, many: Many) -> None:
    """Two calls of one process for the same rows: one of them inserts."""
    locks = KeyedLocks()
    inserts: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("INSERT"):
            inserts.append(sql)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    start = asyncio.Barrier(5)
    policy = Policy(locks=locks, wait_timeout=20)

    async def call(names: str) -> int:
        async with AsyncSession(engine) as session, session.begin():
            await start.wait()
            result = await many(session, Tag, named(*names), policy=policy)
            return sum(created for _, created in result)

    calls = [call(names) for names in ("abcd", "dcba", "badc", "cbda", "bcda")]
    assert sum(await asyncio.gather(*calls)) == 4
    assert len(inserts) == 1
    statistics = locks.statistics()
    assert (statistics.held, statistics.waiting) == (0, 0)


@pytest.mark.parametrize("hold", ["transaction", "call"])
async def test_keys_are_held(engine: AsyncEngine, hold: Any, many: Many) -> None:
    """Keys are held until the transaction or the call ends; not after an error."""
    locks = KeyedLocks()
    policy = Policy(locks=locks, hold=hold)
    async with AsyncSession(engine) as session:
        await many(session, Tag, named("a", "b"), policy=policy)
        assert locks.statistics().held == (2 if hold == "transaction" else 0)
        await session.rollback()
        assert locks.statistics().held == 0
        with pytest.raises(IntegrityError):
            await many(session, Tag, [{"name": "a", "colour": "bad"}], policy=policy)
        assert locks.statistics().held == 0


@on_postgres
async def test_wait_that_takes_too_long(engine: AsyncEngine, many: Many) -> None:
    """After wait_timeout the call goes on without the key, and asks the database."""
    locks = KeyedLocks()
    policy = Policy(locks=locks, wait_timeout=0)
    first = AsyncSession(engine)
    await many(first, Tag, named("a", "b"), policy=policy)
    async with AsyncSession(engine) as second:
        other = asyncio.ensure_future(many(second, Tag, named("b", "c"), policy=policy))
        await until(lambda: locks.statistics().timeouts)
        await first.rollback()
        result = await other
        assert [created for _, created in result] == [True, True]
        await second.commit()
    await first.close()
    assert locks.statistics().held == 0
