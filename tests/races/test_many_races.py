"""Many rows: rivals in other tasks and processes, and a hundred thousand of them."""

import asyncio
import json
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import many_storm
import pytest
from models import Tag
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import get_or_create_many, update_or_create_many

pytestmark = pytest.mark.heavy


async def test_processes(url: str, engine: AsyncEngine) -> None:
    """Two processes x 4 tasks: no deadlock, no duplicate, each row created once.

    Fails with `sorted` taken out of `distinct` in `_rows`: deadlocks.
    """
    script, pipe = str(Path(many_storm.__file__)), asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, script, url, seed), stdin=pipe, stdout=pipe
        )
        for seed in ("1", "2")
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    ends = await asyncio.gather(*(p.communicate(b"go\n") for p in processes))
    assert [process.returncode for process in processes] == [0, 0]
    created = sum((Counter(json.loads(out)) for out, _ in ends), Counter[str]())
    assert set(created.values()) == {1}
    async with AsyncSession(engine) as session:
        names = (await session.scalars(select(Tag.name))).all()
    assert sorted(created) == sorted(names)


@pytest.mark.timeout(300)  # It is a matter of seconds, on a machine of one's own.
@pytest.mark.parametrize("size", [5_000, 100_000])
async def test_a_hundred_thousand(engine: AsyncEngine, size: int) -> None:
    """No statement has more parameters than the driver takes, whatever the chunk."""
    rows = ({"name": f"tag {number}"} for number in range(100_000))
    async with AsyncSession(engine) as session, session.begin():
        results = await get_or_create_many(
            session, Tag, rows, key="name", chunk_size=size
        )
        assert all(created for _, created in results)
        assert await session.scalar(select(func.count(Tag.id))) == 100_000
        names = [f"tag {number}" for number in range(0, 100_000, 9)]
        again = [{"name": name, "colour": "red"} for name in names]
        updated = await update_or_create_many(session, Tag, again, key="name")
        assert {tag.colour for tag, _ in updated} == {"red"}


async def test_memory(
    engine: AsyncEngine, record_property: Callable[[str, object], None]
) -> None:
    """It is in proportion to the result: less than 3 kB for each row, at its peak."""
    rows = ({"name": f"tag {number}"} for number in range(20_000))
    async with AsyncSession(engine) as session, session.begin():
        await get_or_create_many(session, Tag, [{"name": "first"}])
        tracemalloc.start()
        try:
            results = await get_or_create_many(session, Tag, rows, chunk_size=2_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    record_property("peak_bytes", peak)
    assert len(results) == 20_000
    assert peak < len(results) * 3_000
