from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from by_ids import Many, loading
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

from async_goc import get_or_create_ids, get_or_create_many

VERBS = [
    pytest.param(get_or_create_many, id="many"),
    pytest.param(get_or_create_ids, id="ids", marks=pytest.mark.heavy),
]


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


@pytest.fixture(params=VERBS)
def many(request: pytest.FixtureRequest) -> Many:
    """A call for many rows: its own instances, or those of the keys that it finds."""
    if request.param is get_or_create_many:
        return get_or_create_many
    is_counted = "statements" in request.fixturenames
    return loading(request.getfixturevalue("statements") if is_counted else [])
