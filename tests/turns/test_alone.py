"""A session alone in the process, whatever it does."""

import asyncio
from random import Random
from typing import Any

import pytest
from backends import Sessions
from models import Tag
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

from async_goc import KeyedLocks, Policy, get_or_create

pytestmark = pytest.mark.one_driver

STEPS = {
    "call": 6,
    "savepoint": 2,
    "release": 1,
    "undo": 1,
    "delete": 1,
    "commit": 1,
    "rollback": 1,
    "close": 1,
}


class Life:
    """A session's steps, at random; what its keys should be is written down.

    Attributes:
        held: The names created and not undone, for the root and each open savepoint.
    """

    def __init__(self, session: AsyncSession, locks: KeyedLocks, random: Random):
        self.session = session
        self.locks = locks
        self.random = random
        self.savepoints: list[AsyncSessionTransaction] = []
        self.held: list[set[str]] = [set()]

    async def step(self) -> None:
        name = self.random.choices(list(STEPS), STEPS.values())[0]
        if name in {"commit", "rollback", "close"}:
            await getattr(self.session, name)()
            self.savepoints, self.held = [], [set()]
        elif name in {"release", "undo"}:
            await self._end(is_kept=name == "release")
        else:
            await getattr(self, f"_{name}")()

    async def _call(self, depth: int = 0) -> None:
        """Ask for a tag, perhaps with a call in the defaults, which comes first."""
        name = self.random.choice("abcd")
        hold: Any = self.random.choice(["transaction", "transaction", "call"])

        async def colour() -> str:
            if depth < 2 and self.random.random() < 0.5:
                await self._call(depth + 1)
            return "blue"

        policy = Policy(locks=self.locks, wait_timeout=None, hold=hold)
        _, created = await get_or_create(
            self.session, Tag, name=name, defaults={"colour": colour}, policy=policy
        )
        is_held = any(name in names for names in self.held)
        if created and hold == "transaction" and not is_held:
            self.held[-1].add(name)

    async def _savepoint(self) -> None:
        self.savepoints.append(await self.session.begin_nested())
        self.held.append(set())

    async def _end(self, *, is_kept: bool) -> None:
        if self.savepoints:
            savepoint, names = self.savepoints.pop(), self.held.pop()
            if is_kept:
                await savepoint.commit()
                self.held[-1] |= names
            else:
                await savepoint.rollback()

    async def _delete(self) -> None:
        for tag in await self.session.scalars(Tag.__table__.select()):
            await self.session.execute(Tag.__table__.delete().where(Tag.id == tag))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.heavy) for seed in (2, 3))]
)
async def test_a_session_alone(sessions: Sessions, seed: int) -> None:
    """A lone session never waits, and holds the keys of what it has created."""
    locks, random = KeyedLocks(), Random(seed)  # noqa: S311
    async with asyncio.timeout(20):
        for _ in range(8):
            async with sessions() as session:
                life = Life(session, locks, random)
                for _ in range(random.randint(3, 14)):
                    await life.step()
                    if session.bind.dialect.name != "sqlite":
                        expected = set[str]().union(*life.held)
                        keys = locks.queues()._holders
                        assert {key[1][0] for key in keys} == expected
            assert locks.queues()._holders == {}
    assert locks.statistics().waited == 0
