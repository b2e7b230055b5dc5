"""Clients of a pooler: each verb, in transactions of its own, in several processes."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from backends import Sessions
from models import Tag
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase

from async_goc import (
    Batch,
    Event,
    GetOrCreator,
    KeyedLocks,
    Outcome,
    Policy,
    UniqueMixin,
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)
from async_goc._call.policy import Strategy

# How many names a transaction asks for.
CHUNK = 5


class Own(DeclarativeBase):
    """Apart from the other models."""


class Label(UniqueMixin, Own):
    """A tag by another class."""

    __table__ = Tag.__table__


class Clients:
    """What the clients of one process share."""

    def __init__(self, sessions: Sessions, policy: Policy) -> None:
        self.sessions, self.policy = sessions, policy
        self.lanes: Counter[str] = Counter()
        heard = replace(policy, observer=self._note)
        self.creator = GetOrCreator(sessions, policy=heard)
        self.batches = GetOrCreator(sessions, policy=heard, batch=Batch())

    def _note(self, event: Event) -> None:
        self.lanes[str(event.lane)] += 1

    async def get(self, names: Sequence[str]) -> list[str]:
        return await self._one_by_one(get_or_create, names)

    async def update(self, names: Sequence[str]) -> list[str]:
        return await self._one_by_one(update_or_create, sorted(names))

    async def _one_by_one(self, verb: Any, names: Sequence[str]) -> list[str]:
        made: list[str] = []
        for name in names:
            async with self.sessions.begin() as session:
                tag, is_created = await verb(
                    session,
                    Tag,
                    name=name,
                    defaults={"colour": "red"},
                    policy=self.policy,
                )
                assert (tag.name, tag.colour) == (name, "red")
            made += [name] * is_created
        return made

    async def get_many(self, names: Sequence[str]) -> list[str]:
        return await self._many(get_or_create_many, names)

    async def update_many(self, names: Sequence[str]) -> list[str]:
        return await self._many(update_or_create_many, names)

    async def _many(self, verb: Any, names: Sequence[str]) -> list[str]:
        rows = [{"name": name, "colour": "red"} for name in names]
        async with self.sessions.begin() as session:
            results = await verb(session, Tag, rows, key="name", policy=self.policy)
            assert [tag.name for tag, _ in results] == list(names)
            return [tag.name for tag, is_created in results if is_created]

    async def unique(self, names: Sequence[str]) -> list[str]:
        made: list[str] = []
        for name in names:
            outcomes: list[Outcome] = []
            policy = replace(
                self.policy, observer=lambda event, o=outcomes: o.append(event.outcome)
            )
            async with self.sessions.begin() as session:
                label = await Label.as_unique(session, name=name, policy=policy)
                assert label.name == name
                assert await Label.as_unique(session, name=name, policy=policy) is label
            made += [name] * outcomes.count(Outcome.CREATED)
        return made

    async def created(self, names: Sequence[str]) -> list[str]:
        calls = [self.creator.get_or_create(Tag, name=name) for name in names]
        return [tag.name for tag, is_new in await asyncio.gather(*calls) if is_new]

    async def batched(self, names: Sequence[str]) -> list[str]:
        calls = [self.batches.get_or_create(Tag, name=name) for name in names]
        return [tag.name for tag, is_new in await asyncio.gather(*calls) if is_new]


Way = Callable[[Sequence[str]], Awaitable[list[str]]]
WAYS = ("get", "update", "get_many", "update_many", "unique", "created", "batched")


def engine_of(block: str, url: str) -> AsyncEngine:
    """The engine that a block of the documents makes, for another database."""
    names: dict[str, Any] = {}
    exec(re.sub(r'"postgresql\+\S+"', repr(url), block), names)  # noqa: S102
    engine: AsyncEngine = names["engine"]
    return engine


async def main(
    block: str, url: str, strategy: Strategy, tasks: int, keys: int
) -> dict[str, Any]:
    """Let the tasks ask for the same names by each way.

    Returns:
        How often each name was created, and which lanes the creators' calls took.
    """
    engine = engine_of(block, url)
    # Nobody gives up waiting: a lost turn would be hidden by going on without it.
    policy = Policy(strategy=strategy, locks=KeyedLocks(), wait_timeout=None)
    clients = Clients(async_sessionmaker(engine), policy)
    created: Counter[str] = Counter()

    async def work(way: str, seed: int) -> None:
        names = [f"{way} {number}" for number in range(keys)]
        random.Random(seed).shuffle(names)  # noqa: S311
        call: Way = getattr(clients, way)
        for start in range(0, keys, CHUNK):
            created.update(await call(names[start : start + CHUNK]))

    for way in WAYS:
        async with asyncio.TaskGroup() as group:
            for seed in range(tasks):
                group.create_task(work(way, seed))
    await engine.dispose()
    return {
        "created": created,
        "lanes": clients.lanes,
    }
