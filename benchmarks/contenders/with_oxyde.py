"""Ask as a user of Oxyde does, whose engine is compiled from Rust."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from oxyde import Field, Model, db

from . import POOL, Call, Contender


class Tag(Model):
    id: int | None = Field(default=None, db_pk=True)
    name: str = Field(db_unique=True)
    uses: int = Field(default=0)

    class Meta:
        is_table = True
        table_name = "benchmark_tag"


class Oxyde(Contender):
    remark = "requests in autocommit"

    async def __aenter__(self) -> Self:
        await db.init(
            default=f"postgresql://{self.place.where}/postgres",
            settings=db.PoolSettings(min_connections=POOL, max_connections=POOL),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await db.close()

    async def request(self, name: str) -> bool:
        return await _ask(name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with db.transaction.atomic():
            yield _ask


async def _ask(name: str) -> bool:
    _, created = await Tag.objects.get_or_create(name=name)
    return bool(created)
