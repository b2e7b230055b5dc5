"""Everything at once, at random: nothing hangs, leaks, or is there twice."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Collection, Hashable, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
import steps
from backends import POSTGRES
from chaos import Chaos
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from async_goc import KeyedLocks, Policy
from async_goc._call.policy import Hold
from async_goc._locks.owner import Answer, Owner
from async_goc._locks.queues import Queues

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
    # Of dropped sessions.
    pytest.mark.filterwarnings(
        "ignore:The garbage collector is trying to clean up non-checked-in connection"
    ),
    # The same, from psycopg.
    pytest.mark.filterwarnings(
        r"ignore:<psycopg\.AsyncConnection .*> was deleted while still open"
        ":ResourceWarning"
    ),
]

HOLDS: list[Hold] = ["transaction", "transaction", "call"]
NAMES = ["blue", "green", "red", "white"]


@pytest.fixture(autouse=True)
def no_debris() -> Iterator[None]:
    """Have no log keep the errors, and with them the sessions that saw them."""
    logging.disable()
    steps.cheap_collections()
    yield
    logging.disable(logging.NOTSET)


@asynccontextmanager
async def pool(url: str, size: int) -> AsyncIterator[AsyncEngine]:
    # Deadlocks are found at once, not after a second. And asyncpg, cancelled while it
    # asks for TLS, leaves an error that is never retrieved.
    options: dict[str, Any] = (
        {"server_settings": {"deadlock_timeout": "20"}, "ssl": False}
        if "asyncpg" in url
        else {"options": "-c deadlock_timeout=20"}
    )
    engine = create_async_engine(
        url, pool_size=size, max_overflow=0, connect_args=options
    )
    yield engine
    await engine.dispose()


async def finish(chaos: Chaos, locks: KeyedLocks) -> None:
    """Check the rows, and that nothing is left."""
    await chaos.check()
    gc.collect()
    await steps.rest(chaos.engine, locks)


@pytest.mark.usefixtures("strategy")
async def test_chaos(url: str) -> None:
    """Transactions end in every way: one row per key, created once per lifetime.

    Fails without `begin_nested` in `_guarded`, and without `leave` in `Turn.__exit__`.
    """
    locks = KeyedLocks()
    policies = [
        Policy(locks=locks, attempts=20, hold=hold, wait_timeout=limit)
        for hold in HOLDS
        for limit in (0, 0.02, 0.1)
    ]
    async with asyncio.timeout(14), pool(url, 8) as engine:
        chaos = Chaos(engine, policies, NAMES)
        seen = await chaos.run(1, workers=16, transactions=13)
        await finish(chaos, locks)
    assert seen["commit"] > 60
    assert {"CancelledError", "TimeoutError", "CallerError"} <= seen.keys()
    assert locks.statistics().waited
    assert locks.statistics().collapsed


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_progress(url: str, size: int) -> None:
    """However small the pool, transactions that wait without a limit come to an end.

    Fails without `connections_of` in `SessionOwner.rank`.
    """
    locks = KeyedLocks()
    policy = Policy(locks=locks, attempts=20, wait_timeout=None)
    async with asyncio.timeout(14), pool(url, size) as engine:
        chaos = Chaos(engine, [policy], NAMES, is_ordered=True)
        seen = await chaos.run(size, workers=12, transactions=10)
        await finish(chaos, locks)
    assert seen["commit"] > 30
    assert locks.statistics().timeouts == 0


async def test_dropped_sessions(url: str) -> None:
    """Keys of dropped sessions are released, even if no other call asks for them.

    Fails without `run_soon` in `TransactionOwner.keep`.
    """
    locks = KeyedLocks()
    names = [f"tag {number}" for number in range(1000)]
    async with asyncio.timeout(14), pool(url, 8) as engine:
        chaos = Chaos(engine, [Policy(locks=locks)], names, fates=["drop"])
        await chaos.run(1, workers=3, transactions=5)
        await finish(chaos, locks)
    assert locks.statistics().acquired > 15


class RandomQueues(Queues):
    """Queues that say whatever they like."""

    random = Random(0)  # noqa: S311

    def take(self, key: Hashable, owner: Owner) -> bool:
        lies = self.random.random() < 0.5
        return self.random.random() < 0.5 if lies else super().take(key, owner)

    def take_all(self, keys: Collection[Hashable], owner: Owner) -> bool:
        return self.random.random() < 0.5 and super().take_all(keys, owner)

    def take_free(self, key: Hashable, owner: Owner) -> bool:
        lies = self.random.random() < 0.5
        return self.random.random() < 0.5 if lies else super().take_free(key, owner)

    async def wait(self, key: Hashable, *args: Any, **kwargs: Any) -> Answer:
        if key in self._holders and self.random.random() < 0.3:
            return await super().wait(key, *args, **kwargs)
        await asyncio.sleep(0)
        return self.random.choice(list(Answer))


class RandomLocks(KeyedLocks):
    """A registry of such queues."""

    def queues(self) -> Queues:
        loop = asyncio.get_running_loop()
        if loop not in self._queues:
            self._queues[loop] = RandomQueues(loop, self._known_keys, self._counts)
        return super().queues()


@pytest.mark.usefixtures("strategy")
async def test_the_database_is_the_judge(url: str) -> None:
    """Whatever the registry says: one row per key, created once per lifetime.

    Fails without `look` in `find_rival`.
    """
    locks = RandomLocks()
    policies = [
        Policy(locks=locks, attempts=20, hold=hold, wait_timeout=0.02) for hold in HOLDS
    ]
    async with asyncio.timeout(14), pool(url, 8) as engine:
        chaos = Chaos(engine, policies, NAMES)
        seen = await chaos.run(1, workers=16, transactions=10)
        await finish(chaos, locks)
    assert seen["commit"] > 40
