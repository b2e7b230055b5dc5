"""Ask a GetOrCreator, whose calls have transactions of their own."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

from lab import Tag

from async_goc import Batch, GetOrCreator

from . import Call, Contender


class Creator(Contender):
    """Without a batch: calls share a transaction only where they ask for one row."""

    has_bulk = True
    remark = "commits by itself"
    batch: Batch | None = None

    async def __aenter__(self) -> Self:
        self._creator = GetOrCreator(self.place.sessions, batch=self.batch)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._creator.aclose()

    def transaction(self) -> AbstractAsyncContextManager[Call]:
        raise NotImplementedError("each call is a transaction of its own")

    async def request(self, name: str) -> bool:
        _, created = await self._creator.get_or_create(Tag, name=name)
        return created

    async def bulk(self, names: Sequence[str]) -> int:
        results = await self._creator.get_or_create_many(Tag, names, key="name")
        return sum(created for _, created in results)


class BatchCreator(Creator):
    """With one: whatever is asked for at the same time goes into a few statements."""

    batch = Batch()
