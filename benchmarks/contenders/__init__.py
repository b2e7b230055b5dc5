"""Say what a contender can be asked for; each module here makes some of one library."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self

from lab import Sessions
from sqlalchemy.ext.asyncio import AsyncSession

POOL = 20

# Return whether the row has been created.
Call = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the table is.

    Attributes:
        where: ``user@host:port`` of the server.
        sessions: Of one engine, which all that use SQLAlchemy share.
    """

    where: str
    sessions: Sessions


class Contender(ABC):
    """One way to get or create a row, by its name; open as a context manager.

    Attributes:
        is_reference: It cannot create, and is there to compare hits with.
        has_bulk: It gets or creates many rows in a few statements, not in a loop.
        is_for_bulk: It is there to compare bulk with, and does nothing else.
        remark: What is not as with the others.
    """

    is_reference = False
    has_bulk = False
    is_for_bulk = False
    remark = ""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:  # noqa: B027 - not all have a pool
        """Close the pool."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Call]:
        """Commit, at its end, what the call that it yields has done."""

    async def request(self, name: str) -> bool:
        """Connect, call, commit; in autocommit, if that is how the library does it."""
        async with self.transaction() as call:
            return await call(name)

    async def bulk(self, names: Sequence[str]) -> int:
        """Return how many rows have been created."""
        async with self.transaction() as call:
            return sum([await call(name) for name in names])


class OnSession(Contender):
    """One that is given an AsyncSession."""

    @abstractmethod
    async def ask(self, session: AsyncSession, name: str) -> bool: ...

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with self.place.sessions.begin() as session:
            yield partial(self.ask, session)


# Imported when they are opened: a library that is not installed costs one row.
CONTENDERS = {
    "asyncpg": "contenders.raw:Raw",
    "asyncpg, autocommit": "contenders.raw:RawAutocommit",
    "select().filter_by() by hand": "contenders.recipes:FilterBy",
    "prebuilt select by hand": "contenders.recipes:Prebuilt",
    "async_goc, savepoint": "contenders.ours:Savepoint",
    "async_goc, native": "contenders.ours:Native",
    "async_goc, keys alone": "contenders.ours:Identities",
    "async_goc, in a loop": "contenders.ours:Loop",
    "GetOrCreator": "contenders.creators:Creator",
    "GetOrCreator, batch": "contenders.creators:BatchCreator",
    "savepoint by hand": "contenders.recipes:SavepointRecipe",
    "ON CONFLICT by hand": "contenders.recipes:OnConflict",
    "advanced-alchemy": "contenders.with_advanced_alchemy:AdvancedAlchemy",
    "Tortoise ORM": "contenders.with_tortoise:TortoiseOrm",
    "Piccolo": "contenders.with_piccolo:Piccolo",
    "yara-orm": "contenders.with_yara_orm:Yara",
    "oxyde": "contenders.with_oxyde:Oxyde",
    "Django, ASGI request": "contenders.with_django:AsgiRequest",
    "Django, one thread": "contenders.with_django:OneThread",
    "Django, atomic": "contenders.with_django:Atomic",
}
