"""SERIALIZABLE, where losing a race ends the transaction."""

from collections import Counter

import processes
import pytest
import serial_storm
from backends import on_postgres
from models import Tag
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

pytestmark = on_postgres


async def names(engine: AsyncEngine) -> list[str]:
    async with AsyncSession(engine) as session:
        return sorted(await session.scalars(select(Tag.name)))


async def test_tasks(engine: AsyncEngine, url: str) -> None:
    """Five tasks ask for the same three rows: all succeed, and each row is made once.

    Fails without `asks_to_run_again` in `_is_passing`.
    """
    result = await serial_storm.main(url, 3, 5)
    assert result["calls"] == 15
    assert set(result["created"].values()) == {1}
    assert len(await names(engine)) == 3


@pytest.mark.heavy
async def test_processes(engine: AsyncEngine, url: str) -> None:
    """20 tasks x 10 keys in 4 processes: 800 of 800 calls succeed, without duplicates.

    Fails without `asks_to_run_again` in `_is_passing`.
    """
    results = await processes.at_once(serial_storm, *[(url, 10, 20)] * 4)
    assert sum(result["calls"] for result in results) == 800
    created: Counter[str] = Counter()
    for result in results:
        created.update(result["created"])
    assert set(created.values()) == {1}
    assert len(await names(engine)) == 10
