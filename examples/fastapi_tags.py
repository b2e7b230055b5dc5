"""Tags over HTTP, kept in an SQLite file, or in the database of TAGS_DATABASE_URL."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from os import environ
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import DEFAULT_POLICY, get_or_create, sqlite


class Base(DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


URL = environ.get("TAGS_DATABASE_URL", "sqlite+aiosqlite:///tags.db")
engine = create_async_engine(URL)
if engine.dialect.name == "sqlite":
    sqlite.configure(engine)
sessions = async_sessionmaker(engine)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def begin() -> AsyncIterator[AsyncSession]:
    async with sessions.begin() as session:
        yield session


# Without the scope, FastAPI commits after it has sent the response: the client may not
# find what it has just put, and never hears of a COMMIT that fails.
Transaction = Annotated[AsyncSession, Depends(begin, scope="function")]
Lines = AsyncGenerator[str, None]
app = FastAPI(lifespan=lifespan)


@app.put("/tags/{name}")
async def put(name: str, session: Transaction, response: Response) -> dict[str, Any]:
    tag, created = await get_or_create(session, Tag, name=name)
    response.status_code = 201 if created else 200
    return {"id": tag.id, "name": tag.name, "created": created}


@app.get("/tags")
async def names(session: Transaction) -> list[str]:
    return [*await session.scalars(select(Tag.name).order_by(Tag.name))]


async def create_and_list(name: str) -> Lines:
    """Yield whether the tag is new, then all tags; undo it if the client leaves."""
    async with sessions.begin() as session:
        _, created = await get_or_create(session, Tag, name=name)
        yield "created\n" if created else "found\n"
        for tag in await names(session):
            yield f"{tag}\n"
            # Sending to a client that has left is no error, and takes no time. The task
            # is cancelled here; without it, we would run to the end and commit.
            await asyncio.sleep(0)


async def closing(name: str) -> AsyncIterator[Lines]:
    """Close the generator after the response: Starlette leaves it to be collected."""
    async with aclosing(create_and_list(name)) as lines:
        yield lines


@app.post("/tags/{name}/stream")
async def stream(lines: Annotated[Lines, Depends(closing)]) -> StreamingResponse:
    return StreamingResponse(lines, media_type="text/plain")


@app.get("/locks")
async def locks() -> dict[str, Any]:
    """Show what the requests under way hold."""
    counts = asdict(registry.statistics()) if (registry := DEFAULT_POLICY.locks) else {}
    return {**counts, "pool": engine.pool.status()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(environ.get("TAGS_PORT", "8000")))
