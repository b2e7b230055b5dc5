"""What is kept between calls does not grow with their number."""

import gc
from typing import Any
from weakref import WeakSet

import pytest
from models import Tag
from sqlalchemy import Integer, String
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, mapped_column

from async_goc import KeyedLocks, Policy, get_or_create


async def test_many_keys(engine: AsyncEngine, strategy: str) -> None:
    """Plans and statements are per model and names; released keys are forgotten."""
    locks = KeyedLocks(known_keys=50)
    policy = Policy(locks=locks)
    sizes: list[tuple[int, ...]] = []
    for number in range(120):
        async with AsyncSession(engine) as session, session.begin():
            await get_or_create(session, Tag, name=f"tag {number}", policy=policy)
        if number in {59, 119}:
            sizes.append(
                (
                    len(vars(Tag.__mapper__)["_async_goc"]),
                    len(vars(engine.dialect).get("_async_goc", ())),
                    len(locks.queues().memory._released),
                    len(locks.queues()._holders),
                    len(engine.sync_engine._compiled_cache),
                )
            )
    assert sizes[0] == sizes[1]
    assert policy.strategy == strategy


@pytest.mark.usefixtures("strategy")
async def test_many_models(engine: AsyncEngine) -> None:
    """A model that is no longer used is collected, with its plans."""
    models = WeakSet[Any]()

    async def use(number: int) -> None:
        class Own(DeclarativeBase):
            pass

        columns = {
            "__tablename__": "letter",
            "id": mapped_column(Integer, primary_key=True),
            "name": mapped_column(String, unique=True),
        }
        model: Any = type(f"Model{number}", (Own,), columns)
        models.add(model)
        async with AsyncSession(engine) as session, session.begin():
            await get_or_create(session, model, name=f"letter {number}")

    for number in range(12):
        await use(number)
    engine.sync_engine.clear_compiled_cache()  # SQLAlchemy's keeps the newest 500.
    gc.collect()
    assert not models
    assert not vars(engine.dialect).get("_async_goc")
