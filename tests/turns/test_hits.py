"""Rows that exist: a call that finds one keeps no other call waiting."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from backends import Sessions, on_postgres
from models import Author, Book, Tag
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import selectinload
from sqlalchemy.util import await_only
from waiting import sent, until

from async_goc import (
    KeyedLocks,
    Policy,
    Stats,
    get_or_create,
    get_or_create_many,
)

pytestmark = pytest.mark.one_driver


@pytest.mark.parametrize("is_observed", [False, True])
@pytest.mark.parametrize("options", [{}, {"an_option": "of the engine"}])
async def test_hits_do_not_queue(
    engine: AsyncEngine,
    policy: Policy,
    locks: KeyedLocks,
    options: dict[str, str],
    *,
    is_observed: bool,
) -> None:
    """A session with a connection looks first; one without knows what exists.

    Fails without `_is_decided` in `Turn`.
    """
    sessions = async_sessionmaker(engine.execution_options(**options))
    if not is_observed:
        policy = replace(policy, observer=None)
    async with sessions.begin() as session:
        await get_or_create(session, Tag, name="x", policy=policy)
    async with sessions() as session:
        await get_or_create(session, Tag, name="x", policy=policy)
        await session.rollback()
        await session.connection()
        await get_or_create(session, Tag, name="x", policy=policy)
    assert locks.statistics().acquired == 1


@on_postgres
@pytest.mark.parametrize("is_many", [False, True])
async def test_released_since_the_look(
    engine: AsyncEngine, policy: Policy, stats: Stats, *, is_many: bool
) -> None:
    """The row may have come between the look and the queue, with no call to wait for.

    Fails without `has_changed` in `Turn.queue`, and without `have_changed` in
    `Turn._take_all`.
    """
    counts, names = sent(engine), ["x", "y"] if is_many else ["x"]

    async def rival() -> None:
        async with AsyncSession(engine) as other, other.begin():
            for name in names:
                await get_or_create(other, Tag, name=name, policy=policy)

    def run(*_: object) -> None:
        await_only(rival())

    async with AsyncSession(engine) as session:
        await session.connection()
        event.listen(engine.sync_engine, "after_cursor_execute", run, once=True)
        if is_many:
            how: Any = {"key": "name", "policy": policy}
            found = await get_or_create_many(session, Tag, names, **how)
            created = any(created for _, created in found)
        else:
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
    assert not created
    # A call for many rows says of all that it has missed at first that it was lost.
    assert (counts["INSERT"], stats["lost_race"]) == (len(names), int(is_many))


@on_postgres
async def test_released_before_the_next_chunk(
    engine: AsyncEngine, policy: Policy
) -> None:
    """What was released before a chunk is looked for does not matter to it.

    Fails without `_looked` in `Turn._take_all`.
    """
    counts = sent(engine)

    async def rival() -> None:
        async with AsyncSession(engine) as other:
            await get_or_create(other, Tag, name="c", policy=policy)

    event.listen(
        engine.sync_engine,
        "after_cursor_execute",
        lambda *_: await_only(rival()),
        once=True,
    )
    async with AsyncSession(engine) as session:
        await session.connection()
        how: Any = {"key": "name", "policy": policy, "chunk_size": 2}
        found = await get_or_create_many(session, Tag, ["a", "b", "c", "d"], **how)
    assert all(created for _, created in found)
    assert counts["SELECT"] == 3


@pytest.mark.parametrize("is_many", [False, True])
async def test_rows_known_to_exist_may_have_gone(
    engine: AsyncEngine,
    sessions: Sessions,
    policy: Policy,
    locks: KeyedLocks,
    *,
    is_many: bool,
) -> None:
    """A deleted row is created again; the next call waits without a connection.

    Fails without `forget` in `Turn.queue`, and without `forget_all` in
    `Turn._take_all`.
    """
    async with sessions.begin() as session:
        tag, _ = await get_or_create(session, Tag, name="x", policy=policy)
        await session.delete(tag)
        await session.flush()
        await get_or_create(session, Tag, name="x", policy=policy)
    async with sessions.begin() as session:
        await session.delete(await session.get_one(Tag, (await _only(session)).id))

    async with sessions() as first, sessions() as second:
        if is_many:
            how: Any = {"key": "name", "policy": policy}
            found = await get_or_create_many(first, Tag, ["x", "y"], **how)
            assert all(created for _, created in found)
        else:
            _, created = await get_or_create(first, Tag, name="x", policy=policy)
            assert created
        call = asyncio.create_task(get_or_create(second, Tag, name="x", policy=policy))
        await until(lambda: locks.statistics().waiting)
        assert engine.pool.checkedout() == 1
        await first.commit()
        _, created = await call
        assert not created


async def _only(session: AsyncSession) -> Tag:
    return (await session.scalars(select(Tag))).one()


async def test_finders_share_what_they_find(
    sessions: Sessions, policy: Policy, stats: Stats, locks: KeyedLocks
) -> None:
    """The first of many looks; the others then read in parallel: no creator, hits."""
    async with sessions.begin() as session:
        session.add(Tag(name="x"))

    async def request() -> None:
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name="x", policy=policy)

    await asyncio.gather(*(request() for _ in range(10)))
    assert locks.statistics().acquired == 1
    assert stats["hit"] == 10


@on_postgres
async def test_followers_honour_what_they_asked_for(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """A call that has waited gets its options and its checks, like any hit."""
    async with sessions.begin() as session:
        session.add(Author(name="ann"))

    async def request() -> int:
        async with sessions() as session:
            ann = (await session.scalars(select(Author))).one()
            book, created = await get_or_create(
                session,
                Book,
                author=ann,
                title="x",
                options=[selectinload(Book.reviews)],
                policy=policy,
            )
            if created:
                await until(lambda: locks.statistics().waiting == 4)
            assert book.reviews == []
            await session.commit()
        return created

    assert sum(await asyncio.gather(*(request() for _ in range(5)))) == 1
    assert locks.statistics().collapsed == 4
