"""Stop a statement, or a connection, from another connection."""

import asyncio
from typing import Any

from backends import POSTGRES
from failures import Place, Provoke
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


def slow(backend: str) -> str:
    """A statement that takes longer than a test."""
    return f"SELECT {'pg_sleep' if backend in POSTGRES else 'sleep'}(9)"


def stopped(stop: str, *, is_idle: bool = False) -> Provoke:
    """Let another connection *stop* one that runs a statement, or is idle."""

    async def provoke(here: Place) -> None:
        async with here.engine.connect() as victim:
            number = await number_of(victim, here.backend)
            if is_idle:
                await here.two.exec_driver_sql(stop.format(number))
                await find_gone(here, victim, number)
            # Without a table, MySQL says nothing of its end.
            statement = f"{slow(here.backend)} FROM failing_thing"
            call = asyncio.create_task(victim.exec_driver_sql(statement))
            if not is_idle:
                await seen(here, number, statement)
                await here.two.exec_driver_sql(stop.format(number))
            await call

    return provoke


async def idle_for_too_long(here: Place) -> None:
    """PostgreSQL ends a connection that keeps a transaction open."""
    async with here.engine.connect() as victim:
        number = await number_of(victim, here.backend)
        await victim.exec_driver_sql("SET idle_in_transaction_session_timeout = 20")
        await find_gone(here, victim, number)
        await victim.exec_driver_sql("SELECT 1")


async def number_of(connection: AsyncConnection, backend: str) -> Any:
    name = "pg_backend_pid" if backend in POSTGRES else "connection_id"
    return await connection.scalar(text(f"SELECT {name}()"))


async def find_gone(here: Place, victim: AsyncConnection, number: int) -> None:
    """Wait until a connection has ended, and asyncpg, which listens, knows it."""
    await seen(here, number, None)
    driver: Any = (await victim.get_raw_connection()).driver_connection
    while "asyncpg" in here.backend and not driver.is_closed():
        await here.two.exec_driver_sql("SELECT 1")


async def seen(here: Place, number: int, statement: str | None) -> None:
    """Wait until a connection runs that statement, or is gone."""
    doing = "coalesce(info, '') FROM information_schema.processlist WHERE id"
    if here.backend in POSTGRES:
        # A statement is there as soon as it is prepared, and nothing can stop it then.
        is_running = "wait_event = 'PgSleep' THEN query ELSE '' END"
        doing = f"CASE WHEN {is_running} FROM pg_stat_activity WHERE pid"
    sql = text(f"SELECT {doing} = :number")
    while await here.two.scalar(sql, {"number": number}) != statement:
        # PostgreSQL's view stays as it is until the transaction ends.
        await here.two.rollback()
