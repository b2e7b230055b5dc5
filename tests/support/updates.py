"""Count in one column of a row, many times; run by itself, in a process of its own."""

import asyncio
import sys

from models import Page
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import sqlite, update_or_create


async def count(engine: AsyncEngine, column: str, times: int) -> None:
    """Write each number into *column*, and add one to the total.

    In one session that expires nothing, so that it never reads what it has loaded.
    """
    async with AsyncSession(engine, expire_on_commit=False) as session:
        for number in range(1, times + 1):
            async with session.begin():
                page, _ = await update_or_create(
                    session, Page, name="home", defaults={column: number}
                )
                page.total += 1


async def main(url: str, column: str, times: str) -> None:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine, busy_timeout=30)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    await count(engine, column, int(times))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
