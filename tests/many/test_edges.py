"""Many rows, where something is in the way."""

import asyncio
import gc
from typing import Any

import pytest
from backends import Sessions, each_strategy, on_postgres
from by_ids import Many
from models import Place, Tag
from sqlalchemy import (
    func,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from waiting import until

from async_goc import (
    Event,
    KeyedLocks,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create_many,
)

pytestmark = pytest.mark.one_driver

AB = [{"name": "a"}, {"name": "b"}]


async def test_pending_rows(engine: AsyncEngine, many: Many) -> None:
    """The caller's pending rows are flushed before the guard, and found."""
    async with AsyncSession(engine, autoflush=False) as session:
        session.add(mine := Tag(name="b"))
        result = await many(session, Tag, AB)
        assert [created for _, created in result] == [True, False]
        assert result[1][0] is mine
        session.add(mine := Tag(name="c"))
        result = await many(session, Tag, [{"name": "c"}])
        assert result == [(mine, False)]


@each_strategy
async def test_without_locks(session: AsyncSession, many: Many) -> None:
    """The registry may be switched off."""
    policy = Policy(locks=None)
    for expected in (True, False):
        result = await many(session, Tag, AB, policy=policy)
        assert [created for _, created in result] == [expected] * 2


@on_postgres
async def test_leader_that_rolls_back(sessions: Sessions) -> None:
    """The key goes to the call that waits for it, which then creates the row."""
    locks = KeyedLocks()
    policy = Policy(locks=locks, wait_timeout=None)
    async with sessions() as leader, sessions() as follower:
        await get_or_create(leader, Tag, name="b", policy=policy)
        call = asyncio.create_task(get_or_create_many(follower, Tag, AB, policy=policy))
        await until(lambda: locks.statistics().waiting)
        await leader.rollback()
        assert all(created for _, created in await call)
        assert locks.statistics().held == 2
    assert locks.statistics().held == 0


@on_postgres
@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning")
async def test_a_call_that_is_collected(sessions: Sessions) -> None:
    """Wherever the collector runs, the keys are released by the loop.

    Fails without `run_after` in `Turn.__exit__`: it hangs.
    """
    locks = KeyedLocks()
    policy = Policy(locks=locks, wait_timeout=None)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)  # It refuses what another thread does.
    loop.set_exception_handler(lambda *_: None)  # A task was destroyed.
    is_suspended = asyncio.Event()

    async def nothing_comes() -> str:
        is_suspended.set()
        return await loop.create_future()

    async def lead(session: AsyncSession) -> None:
        defaults = {"colour": nothing_comes}
        await get_or_create_many(session, Tag, AB, defaults=defaults, policy=policy)

    async with sessions() as leader, sessions() as follower:
        task = asyncio.create_task(lead(leader))
        await is_suspended.wait()
        call = asyncio.create_task(get_or_create_many(follower, Tag, AB, policy=policy))
        await until(lambda: locks.statistics().waiting)
        del task
        await asyncio.to_thread(gc.collect)
        async with asyncio.timeout(5):
            result = await call
        assert all(created for _, created in result)
        await follower.rollback()


@each_strategy
@pytest.mark.parametrize("is_old", [True, False])
async def test_what_a_statement_cannot_insert(
    engine: AsyncEngine, session: AsyncSession, many: Many, *, is_old: bool
) -> None:
    """SQL among the values, or a database without RETURNING: the unit of work."""
    rows: list[dict[str, Any]] = [{"name": "a", "slug": "s"}]
    if is_old:
        engine.dialect.insert_returning = False
    else:
        rows[0]["slug"] = func.lower("S")
    events: list[Event] = []
    policy = Policy(observer=events.append)
    result = await many(session, Tag, rows, key="name", policy=policy)
    assert (result[0][1], result[0][0].slug) == (True, "s")
    assert events[0].strategy == "savepoint"


@each_strategy
async def test_names_beyond_columns(session: AsyncSession) -> None:
    """Plain attributes are no part of a constraint; a composite is no key."""
    rows = [{"x": 1, "y": 2, "colour": "blue"}]
    ((place, created),) = await get_or_create_many(session, Place, rows)
    assert (created, place.x, place.colour) == (True, 1, "blue")
    with pytest.raises(ValueError, match="cannot be a key of many rows"):
        await get_or_create_many(session, Place, [{"point": (1, 2)}], key="point")


@each_strategy
async def test_update_without_onupdate(
    session: AsyncSession, statements: list[str]
) -> None:
    """Without an onupdate, an update reads nothing again."""
    await get_or_create_many(session, Tag, AB)
    statements.clear()
    rows = [{"name": "a", "colour": "red"}]
    ((tag, created),) = await update_or_create_many(session, Tag, rows)
    assert (tag.colour, created) == ("red", False)
    assert statements == ["SELECT", "SAVEPOINT", "SELECT", "UPDATE", "RELEASE"]


@each_strategy
async def test_keys_where_an_index_is_partial(session: AsyncSession) -> None:
    """The values decide whether it counts, so each row is looked at by itself."""
    locks = KeyedLocks()
    rows = [{"code": code, "closed_at": None, "x": x} for x, code in enumerate("ab")]
    await get_or_create_many(
        *(session, Place, rows),
        key=["code", "closed_at"],
        policy=Policy(locks=locks, missing_constraint="ignore"),
    )
    held = [key[1] for key in locks.queues()._holders]
    assert sorted(held) == [(None, "a"), (None, "b")]


@each_strategy
async def test_a_table_of_any_name(session: AsyncSession, many: Many) -> None:
    """Our table of values does not get in the way of one of the same name."""

    class Base(DeclarativeBase):
        pass

    class Given(Base):
        __tablename__ = "given"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(unique=True)

    await (await session.connection()).run_sync(Base.metadata.create_all)
    rows = [{"number": 2}, {"number": 1}]
    for expected in (True, False):
        result = await many(session, Given, rows, key="number")
        assert [(g.number, new) for g, new in result] == [(2, expected), (1, expected)]
