"""Fifty tasks want the same few tags at once; each tag is created once."""

import asyncio
from tempfile import TemporaryDirectory

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import get_or_create, sqlite


class Base(DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


async def main(folder: str, names: list[str]) -> None:
    engine = sqlite.configure(create_async_engine(f"sqlite+aiosqlite:///{folder}/db"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine)

    async def ask(task: int, name: str) -> tuple[str, int, str]:
        async with sessions.begin() as session:
            tag, created = await get_or_create(session, Tag, name=name)
            return name, tag.id, f"created by task {task}" if created else "found"

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(n, name)) for n, name in enumerate(names)]
    await engine.dispose()
    print(*sorted({task.result() for task in tasks}), sep="\n")


with TemporaryDirectory() as folder:
    asyncio.run(main(folder, ["python", "asyncio", "python", "sql", "python"] * 10))
