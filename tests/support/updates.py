"""Count in one column of a row, many times."""

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


async def main(url: str, column: str, times: int) -> None:
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine, busy_timeout=30)
    await count(engine, column, times)
    await engine.dispose()
