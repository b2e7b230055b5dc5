"""The process-wide registry serves any number of event loops."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from backends import POSTGRES
from models import Tag
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from async_goc import DEFAULT_POLICY, get_or_create

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
]

LOCKS = DEFAULT_POLICY.locks
assert LOCKS is not None


async def contend(url: str, name: str) -> int:
    """Let five tasks ask for one row, in a loop of its own; the creators."""
    engine = create_async_engine(url)

    async def request() -> bool:
        async with AsyncSession(engine) as session, session.begin():
            _, created = await get_or_create(session, Tag, name=name)
        return created

    created = await asyncio.gather(*(request() for _ in range(5)))
    await engine.dispose()
    return sum(created)


def loops_known() -> int:
    gc.collect()
    return len(LOCKS._queues)


def test_loops_in_sequence(url: str) -> None:
    """20 contended loops on the same rows: no warning, and nothing is left."""
    before, waited = loops_known(), LOCKS.statistics().waited
    created = [asyncio.run(contend(url, f"tag {n // 2}")) for n in range(20)]
    assert created == [1, 0] * 10
    assert LOCKS.statistics().waited > waited
    assert LOCKS.statistics().held == LOCKS.statistics().waiting == 0
    assert loops_known() == before


def test_loops_at_once(url: str) -> None:
    """Two threads, a loop each, the same rows: the database arbitrates between them."""
    before = loops_known()

    def run(_: int) -> int:
        return sum(asyncio.run(contend(url, f"tag {n}")) for n in range(10))

    with ThreadPoolExecutor(2) as threads:
        created = sum(threads.map(run, range(2)))
    assert created == 10
    assert LOCKS.statistics().held == LOCKS.statistics().waiting == 0
    assert loops_known() == before
