"""Ask as a user of async_goc does."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab import Tag
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import (
    KeyedLocks,
    Policy,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
)

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
        rows = [{"name": name} for name in names]
        async with self.place.sessions.begin() as session:
            results = await get_or_create_many(
                session, Tag, rows, key=["name"], policy=self._policy
            )
        return sum(created for _, created in results)


class Native(Savepoint):
    """PostgreSQL's own way to insert what may exist."""

    options: Mapping[str, Any] = {"strategy": "native"}


class NoLocks(Savepoint):
    """Without the queue, to see what it costs."""

    options: Mapping[str, Any] = {"locks": None}


class NothingKnown(Savepoint):
    """With a queue that remembers no key whose row was there."""

    options: Mapping[str, Any] = {"locks": KeyedLocks(0)}


class Identities(Savepoint):
    """Many rows, of which nothing but the primary keys is wanted."""

    is_for_bulk = True
    remark = "primary keys alone"

    async def bulk(self, names: Sequence[str]) -> int:
        rows = [{"name": name} for name in names]
        async with self.place.sessions.begin() as session:
            results = await get_or_create_ids(
                session, Tag, rows, key=["name"], policy=self._policy
            )
        return sum(created for _, created in results)


class Loop(Savepoint):
    """Many rows, one call after the other."""

    has_bulk = False
    is_for_bulk = True

    async def bulk(self, names: Sequence[str]) -> int:
        return await OnSession.bulk(self, names)
