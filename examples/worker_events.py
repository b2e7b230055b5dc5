"""The events of worker.py: their queue, the names that they mention, and the check."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from sqlalchemy import JSON, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import sqlite


class Base(DeclarativeBase): ...


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class Filling(Base):
    """How many events were put into the queue at once; they are numbered from 1."""

    __tablename__ = "filling"
    id: Mapped[int] = mapped_column(primary_key=True)
    events: Mapped[int]


class Name:
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    events: Mapped[int] = mapped_column(default=0)


class Tag(Name, Base):
    __tablename__ = "tag"


class User(Name, Base):
    __tablename__ = "user"


class Place(Name, Base):
    __tablename__ = "place"


MODELS = (Tag, User, Place)
Mention = tuple[type[Tag | User | Place], str]


def make_event(number: int) -> dict[str, Any]:
    """Return an event, the same for the same number."""
    random = Random(number)  # noqa: S311
    # A few names are in most of the events, and most names in a few of them.
    user, place, *tags = (int(random.paretovariate(0.8)) for _ in range(5))
    return {"user": f"user {user}", "place": f"place {place}", "tags": tags}


def mentions(body: dict[str, Any]) -> set[Mention]:
    """Return what an event mentions, each name once."""
    tags = ((Tag, f"tag {tag}") for tag in body["tags"])
    return {(User, body["user"]), (Place, body["place"]), *tags}


@asynccontextmanager
async def open_engine(url: str, connections: int = 1) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url, pool_size=connections, max_overflow=0)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine)
    try:
        yield engine
    finally:
        await engine.dispose()


async def fill(url: str, events: int) -> int:
    """Fill the queue, unless a killed run has left some; return how many are in it."""
    async with open_engine(url) as engine:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session, session.begin():
            left = await session.scalar(select(func.count(Event.id))) or 0
            if left:
                return left
            first = 1 + (await session.scalar(select(func.sum(Filling.events))) or 0)
            numbers = range(first, first + events)
            new = [{"id": number, "body": make_event(number)} for number in numbers]
            await session.execute(insert(Event), new)
            session.add(Filling(events=events))
    return events


async def check(url: str) -> tuple[int, int, bool]:
    """Return how many events and names there are, and whether the counts are right."""
    counts = Counter[Mention]()
    async with open_engine(url) as engine, AsyncSession(engine) as session:
        # One snapshot for all that is read.
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        left = set(await session.scalars(select(Event.id)))
        filled = await session.scalar(select(func.sum(Filling.events))) or 0
        for model in MODELS:
            for name, events in await session.execute(select(model.name, model.events)):
                counts[model, name] = events
    done = set(range(1, filled + 1)) - left
    expected = Counter(m for number in done for m in mentions(make_event(number)))
    # A name that only events in the queue mention may be there, with 0.
    return len(left), len(counts), counts == expected
