"""Sessions that choose the database of each statement: by the model, or by the row."""

from typing import Any

import pytest
from backends import on_sqlite
from models import Page
from rows import named
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Mapper, Session
from words import Word

from async_goc import (
    GetOrCreator,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

ONE = [get_or_create, update_or_create]
MANY = [get_or_create_many, get_or_create_ids, update_or_create_many]


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
@pytest.mark.parametrize("verb", [*ONE, *MANY, "as_unique", "creator"])
async def test_by_the_row(
    engine: AsyncEngine, statements: list[str], verb: Any
) -> None:
    """A sharded session is refused, before any SQL, whatever it is asked for.

    Fails without `refuse_shards` in `Call.__init__`, and without `routes` in
    `Judge.__init__`.
    """

    def choose(_: object, instance: Any, **__: object) -> str:
        return str(instance.name)

    def choose_any(*_: object, **__: object) -> list[str]:
        return ["a"]

    sharded = async_sessionmaker(
        sync_session_class=ShardedSession,
        shards={"a": engine.sync_engine},
        shard_chooser=choose,
        identity_chooser=choose_any,
        execute_chooser=choose_any,
    )
    async with sharded() as session:
        if verb == "as_unique":
            refused: Any = Word.as_unique(session, text="a")
        elif verb == "creator":
            refused = GetOrCreator(sharded).get_or_create(Page, name="a")
        else:
            refused = call(session, verb, 1)
        with pytest.raises(InvalidRequestError, match=r"session of its engine"):
            await refused
    assert statements == []


@on_sqlite
async def test_a_method_of_the_sessions_own(session: AsyncSession) -> None:
    """A session that was given another get_bind() has it afterwards, too.

    Fails without `isinstance` in `send_anywhere`.
    """
    own: Any = session.sync_session
    usual = own.get_bind

    def choose(*args: Any, **options: Any) -> Any:
        return usual(*args, **options)

    own.get_bind = choose
    assert await call(session, get_or_create, 1) == [True]
    assert await call(session, get_or_create, 1) == [False]
    assert own.get_bind is choose
