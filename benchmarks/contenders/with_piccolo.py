"""Ask as a user of Piccolo does, with its connection pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from piccolo.columns import BigSerial, Integer, Text
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import Table

from . import POOL, Call, Contender


class BenchmarkTag(Table):
    id = BigSerial(primary_key=True)
    name = Text(unique=True)
    uses = Integer(default=0)


class Piccolo(Contender):
    remark = "requests in autocommit"

    async def __aenter__(self) -> Self:
        dsn = f"postgresql://{self.place.where}/postgres"
        self._engine = PostgresEngine({"dsn": dsn})
        # In an application, piccolo_conf.py says so.
        BenchmarkTag._meta.db = self._engine
        await self._engine.start_connection_pool(min_size=POOL, max_size=POOL)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.close_connection_pool()

    async def request(self, name: str) -> bool:
        return await _ask(name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with self._engine.transaction():
            yield _ask


async def _ask(name: str) -> bool:
    tag = await BenchmarkTag.objects().get_or_create(BenchmarkTag.name == name)
    return bool(tag._was_created)
