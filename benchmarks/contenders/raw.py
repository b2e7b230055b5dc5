"""Show the limit: what asyncpg alone takes, in an expert's hands."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Self

import asyncpg

from . import POOL, Call, Contender

_LOOK = "SELECT id, name, uses FROM benchmark_tag WHERE name = $1"
_INSERT = """
    INSERT INTO benchmark_tag (name, uses) VALUES ($1, 0)
    ON CONFLICT (name) DO NOTHING RETURNING id, name, uses
"""
_LOOK_MANY = "SELECT id, name, uses FROM benchmark_tag WHERE name = ANY($1::text[])"
_INSERT_MANY = """
    INSERT INTO benchmark_tag (name, uses) SELECT unnest($1::text[]), 0
    ON CONFLICT (name) DO NOTHING RETURNING id, name, uses
"""


class _Pooled(Contender):
    """asyncpg keeps each statement prepared, per connection, by its text."""

    has_bulk = True

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            f"postgresql://{self.place.where}/postgres",
            min_size=POOL,
            max_size=POOL,
            # A round trip less: nothing here outlives its transaction.
            reset=_nothing,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()


class Raw(_Pooled):
    """With BEGIN and COMMIT, as where the call is part of something."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Call]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield partial(_ask, connection)

    async def bulk(self, names: Sequence[str]) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            return await _ask_many(connection, names)


class RawAutocommit(_Pooled):
    """Without, as where it is all that is done."""

    remark = "autocommit"

    def transaction(self) -> AbstractAsyncContextManager[Call]:
        raise NotImplementedError("each statement is a transaction of its own")

    async def request(self, name: str) -> bool:
        async with self._pool.acquire() as connection:
            return await _ask(connection, name)

    async def bulk(self, names: Sequence[str]) -> int:
        async with self._pool.acquire() as connection:
            return await _ask_many(connection, names)


async def _nothing(_: object) -> None: ...


async def _ask(connection: Any, name: str) -> bool:
    if await connection.fetchrow(_LOOK, name) is not None:
        return False
    if await connection.fetchrow(_INSERT, name) is not None:
        return True
    assert await connection.fetchrow(_LOOK, name) is not None
    return False


async def _ask_many(connection: Any, names: Sequence[str]) -> int:
    found = {row["name"]: row for row in await connection.fetch(_LOOK_MANY, names)}
    # Sorted, so that rivals wait for each other in one order.
    missing = sorted(set(names) - found.keys())
    created = await connection.fetch(_INSERT_MANY, missing)
    found |= {row["name"]: row for row in created}
    if lost := [name for name in missing if name not in found]:
        again = await connection.fetch(_LOOK_MANY, lost)
        found |= {row["name"]: row for row in again}
    assert len(found) == len(names)
    return len(created)
