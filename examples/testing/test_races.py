"""Rivals for one row: each has a session and a connection of its own."""

import asyncio
from itertools import count

import pytest
from bookmarks import Bookmark, Topic, save
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from async_goc import DEFAULT_POLICY, get_or_create
from async_goc.testing import assert_nothing_held, race, record, rival

Sessions = async_sessionmaker[AsyncSession]


async def test_one_of_many_creates_it(real_sessions: Sessions) -> None:
    async def create() -> bool:
        async with real_sessions.begin() as session:
            _, created = await get_or_create(session, Topic, name="python")
            return created

    results = await race(create)
    assert results.count(True) == 1
    assert results.count(False) == 9


async def test_bookmarks_that_share_a_topic(real_sessions: Sessions) -> None:
    numbers = count()

    async def save_one() -> int:
        number = next(numbers)
        async with real_sessions() as session:
            url = f"https://{number}.example"
            _, new = await save(session, url, "sql", "python", f"topic {number % 2}")
            return new

    results = await race(save_one, n=8)
    # What a call raises is among the results.
    numbers_of_new = [each for each in results if isinstance(each, int)]
    assert (len(numbers_of_new), sum(numbers_of_new)) == (8, 4)
    async with real_sessions() as session:
        assert await session.scalar(select(func.count(Bookmark.id))) == 8


async def test_a_rival_is_faster(real_sessions: Sessions) -> None:
    """Another process creates the topic just before we do: we take that one."""
    with record() as events:
        async with rival(real_sessions, Topic, name="python"), real_sessions() as ours:
            bookmark, new = await save(ours, "https://a.example", "python", "sql")
    assert ([topic.name for topic in bookmark.topics], new) == (["python", "sql"], 1)
    # SQLite has one writer, so the rival has come before our transaction began.
    assert [event.outcome for event in events if event.model is Topic] in (
        ["lost_race", "created"],
        ["hit", "created"],
    )


async def test_second_waits_for_the_commit(real_sessions: Sessions) -> None:
    async with asyncio.TaskGroup() as group, real_sessions() as first:
        await save_topic(first)
        second = group.create_task(save_later(real_sessions))
        await somebody_waits()
        with pytest.raises(AssertionError, match=r"held: Topic \(name\) for"):
            assert_nothing_held()
        await first.commit()
    assert second.result() is False


async def test_second_gives_up(real_sessions: Sessions) -> None:
    """Cancelled while it waits, it leaves nothing behind."""
    async with real_sessions.begin() as first:
        await save_topic(first)
        second = asyncio.create_task(save_later(real_sessions))
        await somebody_waits()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    assert await save_later(real_sessions) is False


async def save_topic(session: AsyncSession) -> bool:
    _, created = await get_or_create(session, Topic, name="python")
    return created


async def save_later(sessions: Sessions) -> bool:
    async with sessions.begin() as session:
        return await save_topic(session)


async def somebody_waits() -> None:
    """Return when a call waits for another session's transaction."""
    assert DEFAULT_POLICY.locks is not None
    # Not for a while: for the thing itself, however long it takes.
    async with asyncio.timeout(5):
        while not DEFAULT_POLICY.locks.statistics().waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
