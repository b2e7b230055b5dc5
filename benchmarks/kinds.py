"""What clients or applications may make anew for each call: a function for each."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from lab import Tag
from sqlalchemy import Integer, String, event, exists, func, literal_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    aliased,
    load_only,
    mapped_column,
    undefer,
)

from async_goc import (
    KeyedLocks,
    Policy,
    Stats,
    UniqueMixin,
    get_or_create,
    get_or_create_many,
    update_or_create_many,
)

LAX = Policy(locks=KeyedLocks(), missing_constraint="ignore")


class Own(DeclarativeBase):
    """The base of models that come and go."""


async def literal(session: AsyncSession, number: int) -> None:
    criteria = (Tag.name == f"literal {number}", func.length(Tag.name) > number % 7)
    await get_or_create(session, Tag, *criteria, policy=LAX)


async def text(session: AsyncSession, number: int) -> None:
    criterion = literal_column(f"'text {number}'") == Tag.name
    await get_or_create(session, Tag, criterion, Tag.name == "text", policy=LAX)


async def alias(session: AsyncSession, number: int) -> None:
    other = aliased(Tag)
    criterion = ~exists().where(other.name == f"alias {number}")
    await get_or_create(session, Tag, criterion, name="alias", policy=LAX)


async def option(session: AsyncSession, number: int) -> None:
    options = [undefer(Tag.name), load_only(Tag.name)]
    await get_or_create(session, Tag, name=f"{number}", options=options, policy=LAX)


async def registry(session: AsyncSession, number: int) -> None:
    policy = Policy(locks=KeyedLocks(), namespace=number, observer=Stats())
    await get_or_create(session, Tag, name="registry", policy=policy)


async def model(session: AsyncSession, number: int) -> None:
    columns = {
        "__tablename__": Tag.__tablename__,
        "__table_args__": {"extend_existing": True},
        "id": mapped_column(Integer, primary_key=True),
        "name": mapped_column(String, unique=True),
        "uses": mapped_column(Integer, default=0),
    }
    made: Any = type(f"Model{number}", (UniqueMixin, Own), columns)
    await get_or_create(session, made, name="model", policy=LAX)
    await made.as_unique(session, name="model", policy=LAX)
    Own.metadata.clear()


async def cancelled(session: AsyncSession, number: int) -> None:
    """Cancel it at its SELECT, SAVEPOINT, INSERT or RELEASE, or not at all."""
    left = number % 5

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            task.cancel()

    connection = await session.connection()
    event.listen(connection.sync_connection, "before_cursor_execute", count)
    call = get_or_create(session, Tag, name=f"cancelled {number}", policy=LAX)
    task = asyncio.create_task(call)
    with suppress(asyncio.CancelledError):
        await task


async def many(session: AsyncSession, number: int) -> None:
    names = [f"many {number} {n}" for n in range(number % 20)]
    await get_or_create_many(session, Tag, names, key="name", policy=LAX)
    rows = [{"name": name, "uses": number} for name in names]
    await update_or_create_many(session, Tag, rows, key="name", policy=LAX)


async def refused(session: AsyncSession, number: int) -> None:
    with suppress(DBAPIError):
        await get_or_create(session, Tag, name=f"\0 {number}", policy=LAX)


async def long(session: AsyncSession, number: int) -> None:
    # Of an index's row, PostgreSQL refuses so much.
    name = os.urandom(500_000).hex()
    with suppress(DBAPIError):
        await get_or_create(session, Tag, name=f"{number} {name}", policy=LAX)


# The kinds of calls, and the part of them that takes place.
KINDS: dict[Callable[[AsyncSession, int], Awaitable[None]], float] = {
    literal: 1,
    text: 0.1,
    alias: 1,
    option: 1,
    registry: 1,
    cancelled: 1,
    refused: 1,
    many: 0.1,
    model: 0.05,
    long: 0.03,
}
