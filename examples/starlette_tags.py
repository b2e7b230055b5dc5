"""Tags over HTTP: ``uvicorn --app-dir examples starlette_tags:app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import environ

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from async_goc import get_or_create, sqlite


class Base(DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


engine = create_async_engine(environ.get("TAGS_URL", "sqlite+aiosqlite:///tags.db"))
if engine.dialect.name == "sqlite":
    sqlite.configure(engine)
sessions = async_sessionmaker(engine)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def put(request: Request) -> JSONResponse:
    async with sessions.begin() as session:
        name = request.path_params["name"]
        tag, created = await get_or_create(session, Tag, name=name)
        answer = {"id": tag.id, "name": tag.name}
    return JSONResponse(answer, 201 if created else 200)


app = Starlette(routes=[Route("/tags/{name}", put, methods=["PUT"])], lifespan=lifespan)
