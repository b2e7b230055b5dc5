"""Ask as a user of async_goc does."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from lab import Tag
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import Policy, get_or_create

from . import OnSession, Place


class Savepoint(OnSession):
    """The default policy."""

    has_bulk = True
    options: Mapping[str, Any] = {}

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._policy = Policy(**self.options)

    async def ask(self, session: AsyncSession, name: str) -> bool:
        _, created = await get_or_create(session, Tag, name=name, policy=self._policy)
        return created

    async def bulk(self, names: Sequence[str]) -> int:
        # Looked up here, so that its absence costs one row of one table.
        many = importlib.import_module("async_goc").get_or_create_many
        rows = [{"name": name} for name in names]
        async with self.place.sessions.begin() as session:
            results = await many(session, Tag, rows, key=["name"], policy=self._policy)
        return sum(created for _, created in results)


class Native(Savepoint):
    """PostgreSQL's own way to insert what may exist."""

    options: Mapping[str, Any] = {"strategy": "native"}
