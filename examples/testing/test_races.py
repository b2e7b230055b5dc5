"""Rivals for one row: each has a session and a connection of its own."""

import asyncio

import pytest
from bookmarks import Bookmark, Topic, save
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from async_goc import DEFAULT_POLICY, get_or_create

Sessions = async_sessionmaker[AsyncSession]


async def create(sessions: Sessions, name: str) -> bool:
    async with sessions.begin() as session:
        _, created = await get_or_create(session, Topic, name=name)
        return created


async def somebody_waits() -> None:
    """Return when a call waits for another session's transaction."""
    assert DEFAULT_POLICY.locks is not None
    # Not for a while: for the thing itself, however long it takes.
    async with asyncio.timeout(5):
        while not DEFAULT_POLICY.locks.statistics().waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)


# More than once: what a test, with its loop, leaves in the process-wide registry must
# not reach the next one.
@pytest.mark.parametrize("run", range(3))
async def test_one_of_many_creates_it(sessions: Sessions, run: int) -> None:
    created = await asyncio.gather(*(create(sessions, "python") for _ in range(10)))
    assert sum(created) == 1, run


async def test_bookmarks_that_share_a_topic(sessions: Sessions) -> None:
    async def save_one(number: int) -> int:
        async with sessions() as session:
            url = f"https://{number}.example"
            _, new = await save(session, url, "sql", "python", f"topic {number % 2}")
            return new

    assert sum(await asyncio.gather(*map(save_one, range(8)))) == 4
    async with sessions() as session:
        assert await session.scalar(select(func.count(Bookmark.id))) == 8


async def test_second_waits_for_the_commit(sessions: Sessions) -> None:
    async with asyncio.TaskGroup() as group, sessions.begin() as session:
        await get_or_create(session, Topic, name="python")
        second = group.create_task(create(sessions, "python"))
        await somebody_waits()
    assert second.result() is False


async def test_second_creates_it_after_a_rollback(sessions: Sessions) -> None:
    async with asyncio.TaskGroup() as group, sessions() as session:
        await get_or_create(session, Topic, name="python")
        second = group.create_task(create(sessions, "python"))
        await somebody_waits()
        await session.rollback()
    assert second.result() is True


async def test_second_gives_up(sessions: Sessions) -> None:
    """Cancelled while it waits, it leaves nothing behind."""
    async with sessions.begin() as session:
        await get_or_create(session, Topic, name="python")
        second = asyncio.create_task(create(sessions, "python"))
        await somebody_waits()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    assert await create(sessions, "python") is False
