"""Ask as a user of yara-orm does, whose engine is compiled from Rust."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from yara_orm import Model, YaraOrm, fields, in_transaction

from . import POOL, Call, Contender


class Tag(Model):
    id = fields.BigIntField(pk=True)
    name = fields.TextField(unique=True)
    uses = fields.IntField(default=0)

    class Meta:
        table = "benchmark_tag"


class Yara(Contender):
    remark = "requests in autocommit"

    async def __aenter__(self) -> Self:
        url = f"postgres://{self.place.where}/postgres?max_size={POOL}"
        await YaraOrm.init(url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await YaraOrm.close()

    async def request(self, name: str) -> bool:
        return await _ask(name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with in_transaction():
            yield _ask


async def _ask(name: str) -> bool:
    _, created = await Tag.get_or_create(name=name)
    return bool(created)
