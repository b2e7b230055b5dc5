"""Ask as a user of Tortoise ORM does, on asyncpg."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from tortoise import Model, Tortoise, fields
from tortoise.transactions import in_transaction

from . import POOL, Call, Contender


class Tag(Model):
    id = fields.BigIntField(primary_key=True)
    # Unique in the database; Tortoise refuses to say so of a text.
    name = fields.TextField()
    uses = fields.IntField(default=0)

    class Meta:
        table = "benchmark_tag"


class TortoiseOrm(Contender):
    remark = "requests in autocommit"

    async def __aenter__(self) -> Self:
        await Tortoise.init(
            db_url=f"asyncpg://{self.place.where}/postgres"
            f"?minsize={POOL}&maxsize={POOL}",
            modules={"models": [__name__]},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await Tortoise.close_connections()

    async def request(self, name: str) -> bool:
        return await _ask(name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with in_transaction():
            yield _ask


async def _ask(name: str) -> bool:
    _, created = await Tag.get_or_create(name=name)
    return bool(created)
