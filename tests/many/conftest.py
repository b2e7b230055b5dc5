from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    """A call for many rows does not ask for the policy's strategy."""
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
def before_insert(engine: AsyncEngine) -> Iterator[list[Any]]:
    """What to await, once, before the next INSERT INTO of several rows or one."""
    waiting: list[Any] = []

    def before(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("INSERT") and waiting:
            await_only(waiting.pop()())

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    yield waiting
    event.remove(engine.sync_engine, "before_cursor_execute", before)
