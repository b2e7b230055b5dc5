"""A direct lane gives what a session does, whatever the type of the column."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from directs import direct, loaded, seen
from kinds import models_of
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from typed import each_type

from async_goc import get_or_create
from async_goc._own.asks import Ask
from async_goc._own.direct import MISSING

pytestmark = pytest.mark.heavy

VALUES = ("value", "word")


@pytest.fixture
async def models(engine: AsyncEngine, type_: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Two tables of that type, which others see."""
    one, many = models_of(type_)
    async with engine.begin() as connection:
        await connection.run_sync(one.metadata.create_all)
    yield one, many
    async with engine.begin() as connection:
        await connection.run_sync(one.metadata.drop_all)


async def in_session(engine: AsyncEngine, model: Any, value: Any) -> Any:
    """What a session gives and whether it has created it; None: an error."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        try:
            found = await get_or_create(session, model, key=value, defaults=row(value))
            await session.commit()
        except SQLAlchemyError:
            return None
    return found


def row(value: Any) -> dict[str, Any]:
    return {"value": value, "word": "w"}


def same(made: Any, other: Any, *, is_created: bool) -> bool:
    """Whether the two are alike; SQLite returns 1 of an INSERT, and 1.0 later."""
    spelled = {"key", "value"} if is_created and isinstance(other.value, float) else ()
    both = [seen(made), seen(other)]
    for each, instance in zip(both, (made, other), strict=True):
        each.update({name: vars(instance)[name] for name in spelled})
    return both[0] == both[1]


@each_type
async def test_one_by_one(
    engine: AsyncEngine, models: tuple[Any, Any], values: list[Any]
) -> None:
    """What is found, or created, is what a session finds; or it is left to that.

    Fails without `result_processors` in `Loader._processors_of`.
    """
    one, many = models
    lane = direct(engine, many, "key", defaults=VALUES)
    answered = 0
    for value in values:
        expected = await in_session(engine, one, value)
        found = await lane.find({"key": value})
        made = None
        if found is MISSING:
            made = await lane.insert({"key": value}, row(value))
        answer = found if made is None else made
        if not (answer is None or answer is MISSING):
            answered += 1
            is_created = made is not None
            assert expected is not None
            assert is_created is expected[1]
            instance = lane.instance(answer, is_created=is_created)
            other = await loaded(engine, select(many).where(many.id == instance.id))
            assert same(instance, other, is_created=is_created)
        # What was left to the session is there now, and is found by either.
        await in_session(engine, many, value)
    assert answered


@each_type
async def test_many_at_once(
    engine: AsyncEngine, models: tuple[Any, Any], values: list[Any]
) -> None:
    """Each row is created by one call, and what is not certain is left to a session."""
    _, many = models
    lane = direct(engine, many, "key", defaults=VALUES)
    asks = [Ask({"key": value}, row(value)) for value in values]
    answers = await lane.find_or_insert_many(asks, lock_timeout=5)
    known = [answer for answer in answers if answer is not None]
    async with AsyncSession(engine) as session:
        count = await session.scalar(select(func.count()).select_from(many))
    assert sum(is_created for _, is_created in known) == count
    for answer in answers:
        if answer is not None:
            made = lane.instance(answer[0], is_created=answer[1])
            other = await loaded(engine, select(many).where(many.id == made.id))
            assert same(made, other, is_created=answer[1])
            # Nobody else gets the same list, or dictionary.
            again = lane.instance(answer[0], is_created=answer[1])
            mutable = (dict, list, set, bytearray)
            assert not isinstance(made.key, mutable) or again.key is not made.key
    again = await lane.find_or_insert_many(asks, lock_timeout=None)
    assert [a and (a[1], lane.instance(a[0], is_created=False).id) for a in again] == [
        a and (False, lane.instance(a[0], is_created=False).id) for a in answers
    ]
