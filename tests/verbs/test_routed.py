"""Sessions that choose the database of each statement: by the model, or by the row."""

from typing import Any

import pytest
from backends import on_sqlite
from models import Page
from rows import named
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Mapper, Session

from async_goc import (
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

ONE = [get_or_create, update_or_create]
MANY = [get_or_create_many, update_or_create_many]


async def call(session: AsyncSession, verb: Any, likes: int) -> list[bool]:
    """Call the verb for the row "a", and commit; return whether it was created."""
    if verb in MANY:
        rows = [{**row, "likes": likes} for row in named("a")]
        results = await verb(session, Page, rows, key="name")
    else:
        lookup = {"name": "a", "defaults": {"likes": likes}}
        results = [await verb(session, Page, **lookup)]
    await session.commit()
    return [created for _, created in results]


@pytest.mark.usefixtures("strategy")
@pytest.mark.parametrize("verb", ONE + MANY)
async def test_by_the_model(engine: AsyncEngine, verb: Any) -> None:
    """A session that routes is asked with a mapper, as SQLAlchemy asks it.

    Fails without `mapper` in `_update`.
    """
    asked: list[object] = []

    class Routed(Session):
        def get_bind(self, mapper: Any = None, **_: Any) -> Any:
            asked.append(mapper)
            return engine.sync_engine

    for likes, expected in ((1, True), (2, False)):
        async with AsyncSession(sync_session_class=Routed) as session:
            assert await call(session, verb, likes) == [expected]
    assert {type(mapper) for mapper in asked} == {Mapper}


@on_sqlite
@pytest.mark.parametrize("verb", ONE + MANY)
async def test_by_the_row(engine: AsyncEngine, verb: Any) -> None:
    """A sharded session finds, creates and changes the row in its shard."""

    def choose_shard(*_: object, **__: object) -> str:
        return "only"

    def choose_shards(*_: object, **__: object) -> list[str]:
        return ["only"]

    for likes, expected in ((1, True), (2, False)):
        async with AsyncSession(
            sync_session_class=ShardedSession,
            shards={"only": engine.sync_engine},
            shard_chooser=choose_shard,
            identity_chooser=choose_shards,
            execute_chooser=choose_shards,
        ) as session:
            assert await call(session, verb, likes) == [expected]
