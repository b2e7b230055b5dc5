"""The program's own logic: in one session, or in one after the other."""

import pytest
from bookmarks import Bookmark, Topic, save
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from async_goc import get_or_create
from async_goc.testing import record


# Twice: a row that the first run left behind would make the second one fail.
@pytest.mark.parametrize("run", range(2))
async def test_topics_are_created_once(session: AsyncSession, run: int) -> None:
    first, new = await save(session, "https://a.example", "python", "sql")
    assert ([topic.name for topic in first.topics], new) == (["python", "sql"], 2), run
    second, new = await save(session, "https://b.example", "sql", "asyncio")
    assert ([topic.name for topic in second.topics], new) == (["asyncio", "sql"], 1)
    assert await session.scalar(select(func.count(Topic.id))) == 3


async def test_saving_again_creates_nothing(session: AsyncSession) -> None:
    first, _ = await save(session, "https://a.example", "python")
    with record() as events:
        again, new = await save(session, "https://a.example", "python")
    assert again is first
    assert (len(again.topics), new) == (1, 0)
    assert [(event.model, event.outcome) for event in events] == [
        (Bookmark, "hit"),
        (Topic, "hit"),
    ]


async def test_rollback_in_the_program(session: AsyncSession) -> None:
    """It takes what has not been committed, and what has been stays."""
    await save(session, "https://a.example", "python")
    await get_or_create(session, Topic, name="sql")
    await session.rollback()
    _, new = await save(session, "https://b.example", "python", "sql")
    assert new == 1


async def test_next_session(sessions: async_sessionmaker[AsyncSession]) -> None:
    """It sees what the one before has committed."""
    async with sessions() as one:
        await save(one, "https://a.example", "python")
    async with sessions() as other:
        _, new = await save(other, "https://b.example", "python")
        assert new == 0
        assert await other.scalar(select(func.count(Bookmark.id))) == 2
