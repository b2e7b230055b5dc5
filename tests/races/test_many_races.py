"""Many rows: rivals in other tasks and processes, and a hundred thousand of them."""

import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable

import many_storm
import processes
import pytest
import spelling_storm
from backends import on_postgres
from models import Tag
from rows import named
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import get_or_create_many, update_or_create_many

pytestmark = pytest.mark.heavy
ROUNDS = 3


@pytest.fixture(autouse=True)
async def truncated(engine: AsyncEngine) -> AsyncIterator[None]:
    """Leave no dead rows: until PostgreSQL removes them, each later test reads them."""
    yield
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE tag CASCADE"))


async def test_processes(url: str, engine: AsyncEngine) -> None:
    """Two processes x 4 tasks: no deadlock, no duplicate, each row created once.

    Fails without `sorted` in `ledger_of`: by deadlocks.
    """
    ends = await processes.at_once(many_storm, (url, 1), (url, 2))
    created = sum(map(Counter, ends), Counter[str]())
    assert set(created.values()) == {1}
    async with AsyncSession(engine) as session:
        names = (await session.scalars(select(Tag.name))).all()
    assert sorted(created) == sorted(names)


@pytest.mark.timeout(300)  # It is a matter of seconds, on a machine of one's own.
@pytest.mark.parametrize("size", [5_000, 100_000])
async def test_a_hundred_thousand(engine: AsyncEngine, size: int) -> None:
    """No statement has more parameters than the driver takes, whatever the chunk."""
    number = min(4 * size, 100_000)
    names = [f"tag {place}" for place in range(number)]
    async with AsyncSession(engine) as session, session.begin():
        results = await get_or_create_many(
            session, Tag, named(*names), key="name", chunk_size=size
        )
        assert all(created for _, created in results)
        assert await session.scalar(select(func.count(Tag.id))) == number
        again = [{"name": name, "colour": "red"} for name in names[::9]]
        updated = await update_or_create_many(session, Tag, again, key="name")
        assert {tag.colour for tag, _ in updated} == {"red"}


async def test_memory(
    engine: AsyncEngine, record_property: Callable[[str, object], None]
) -> None:
    """Memory is in proportion to the result: at its peak under 3 kB for each row."""
    rows = ({"name": f"tag {number}"} for number in range(10_000))
    async with AsyncSession(engine) as session, session.begin():
        await get_or_create_many(session, Tag, [{"name": "first"}])
        tracemalloc.start()
        try:
            results = await get_or_create_many(session, Tag, rows, chunk_size=1_000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    record_property("peak_bytes", peak)
    assert len(results) == 10_000
    assert peak < len(results) * 3_000


@on_postgres
async def test_spellings(url: str) -> None:
    """Two processes that spell keys differently take them in one order: no deadlock.

    Fails without `ordering` in `_rank`, and without `_ask` in `ranks`.
    """
    calls = [(url, seed, ROUNDS, 40) for seed in (1, 2)]
    created = await processes.at_once(spelling_storm, *calls)
    assert sum(created) == ROUNDS * 40 * len(spelling_storm.SPELLINGS)
