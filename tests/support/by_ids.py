"""Ask for many rows by their primary keys, and answer as if by their instances."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import class_mapper

from async_goc import get_or_create_ids

Many = Callable[..., Awaitable[list[tuple[Any, bool]]]]


def loading(statements: list[str]) -> Many:
    """A call that loads what get_or_create_ids finds, once that has loaded nothing.

    The SELECTs that load it are left out of the statements.
    """

    async def get_or_create_many(
        session: AsyncSession,
        model: type[Any],
        rows: Any,
        /,
        *,
        options: Sequence[Any] = (),
        **how: Any,
    ) -> list[tuple[Any, bool]]:
        known = set(session.identity_map.keys())
        pending = [*session.new]
        found = await get_or_create_ids(session, model, rows, **how)
        known |= {inspect(mine).identity_key for mine in pending}
        assert set(session.identity_map.keys()) <= known
        sent = len(statements)
        there = await session.scalars(select(model).options(*options))
        by_key = {inspect(row).identity: row for row in there}
        del statements[sent:]
        is_one = len(class_mapper(model).primary_key) == 1
        return [(by_key[(key,) if is_one else key], created) for key, created in found]

    return get_or_create_many
