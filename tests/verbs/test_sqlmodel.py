"""Models of SQLModel, as its users write them."""

from backends import Sessions
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import Field, SQLModel

from async_goc import get_or_create, get_or_create_many, update_or_create


class Hero(SQLModel, table=True):
    __tablename__ = "hero"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    age: int | None = None


async def test_verbs(engine: AsyncEngine, sessions: Sessions) -> None:
    """Found, created and updated: by criteria, by keywords, and many at once."""
    async with engine.begin() as connection:
        await connection.run_sync(Hero.metadata.drop_all)
        await connection.run_sync(Hero.metadata.create_all)
    async with sessions() as session:
        for expected in (True, False):
            hero, created = await get_or_create(session, Hero, Hero.name == "x")
            assert (hero.name, hero.age, created) == ("x", None, expected)
        hero, created = await update_or_create(
            session, Hero, name="x", defaults={"age": 7}
        )
        assert (hero.age, created) == (7, False)
        rows = [{"name": name, "age": 1} for name in "xy"]
        many = await get_or_create_many(session, Hero, rows)
        assert [(h.age, created) for h, created in many] == [(7, False), (1, True)]
    async with engine.begin() as connection:
        await connection.run_sync(Hero.metadata.drop_all)
