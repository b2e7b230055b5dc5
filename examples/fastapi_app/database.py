"""What hands out sessions: made once, for as long as the service runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import environ
from typing import Annotated, Any, TypedDict

from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from async_goc import (
    Batch,
    GetOrCreator,
    Policy,
    observers,
    run_in_transaction,
    sqlite,
)
from async_goc.otel import Tracing
from async_goc.prometheus import Metrics

URL = environ.get("HEROES_DATABASE_URL", "sqlite+aiosqlite:///heroes.db")


class State(TypedDict):
    """What each request finds in ``request.state``."""

    sessions: async_sessionmaker[AsyncSession]
    readers: async_sessionmaker[AsyncSession]
    creator: GetOrCreator
    metrics: CollectorRegistry


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[State]:
    engine = create_async_engine(URL)
    is_sqlite = engine.dialect.name == "sqlite"
    if is_sqlite:
        # Other workers of the service are other processes: SQLite has them wait.
        sqlite.configure(engine, busy_timeout=30)
    registry = CollectorRegistry()
    # A request waits ten seconds for another one's open transaction, in this process or
    # in the database, and then says "try again".
    observer = observers(Metrics(registry), Tracing())
    policy = Policy(wait_timeout=10, lock_timeout=10, observer=observer)
    settings: dict[str, Any] = {
        "expire_on_commit": False,
        "class_": AsyncSession,
        "info": {"async_goc.policy": policy},
    }
    sessions = async_sessionmaker(engine, **settings)
    reading = sqlite.reading(engine) if is_sqlite else engine
    readers = async_sessionmaker(reading, **settings)
    await run_in_transaction(sessions, create_tables)
    async with GetOrCreator(sessions, batch=Batch()) as creator:
        yield {
            "sessions": sessions,
            "readers": readers,
            "creator": creator,
            "metrics": registry,
        }
    await engine.dispose()
    await reading.dispose()


async def create_tables(session: AsyncSession) -> None:
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        # Several workers start at once.
        await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
    await connection.run_sync(SQLModel.metadata.create_all)


async def begin(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.state.sessions.begin() as session:
        yield session


async def read(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.state.readers() as session:
        yield session


def creator_of(request: Request) -> GetOrCreator:
    creator: GetOrCreator = request.state.creator
    return creator


# Without the scope, FastAPI commits after it has sent the response: the client may not
# find what it has just put, and never hears of a COMMIT that fails.
Transaction = Annotated[AsyncSession, Depends(begin, scope="function")]
Reader = Annotated[AsyncSession, Depends(read, scope="function")]
Creator = Annotated[GetOrCreator, Depends(creator_of)]
