"""Models of SQLModel: checked by the type checkers, never run."""

from typing import assert_type

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlmodel import Field, SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession as SQLModelSession

from async_goc import (
    GetOrCreator,
    get_or_create,
    get_or_create_many,
    run_in_transaction,
    update_or_create,
)
from async_goc.testing import rival, rolled_back


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    age: int | None = None


async def api(session: AsyncSession, own: SQLModelSession) -> None:
    # SQLModel types a comparison of its attributes as bool.
    hero, created = await get_or_create(session, Hero, Hero.name == "x")
    assert_type(hero, Hero)
    assert_type(created, bool)
    await get_or_create(own, Hero, col(Hero.age).is_(None), name="x")
    await update_or_create(own, Hero, Hero.name == "x", defaults={"age": 7})
    many = await get_or_create_many(own, Hero, [{"name": "x"}], key="name")
    assert_type(many, list[tuple[Hero, bool]])


async def work(session: SQLModelSession) -> int:
    return len((await session.exec(select(Hero))).all())


async def own_transactions(engine: AsyncEngine) -> None:
    sessions = async_sessionmaker(engine, class_=SQLModelSession)
    creator = GetOrCreator(sessions)
    hero, _ = await creator.get_or_create(Hero, name="x")
    assert_type(hero, Hero)
    assert_type(await run_in_transaction(sessions, work), int)


async def tests(engine: AsyncEngine) -> None:
    async with rolled_back(engine, class_=SQLModelSession) as sessions:
        assert_type(sessions, async_sessionmaker[SQLModelSession])
        async with rival(sessions, Hero, name="x"):
            pass
