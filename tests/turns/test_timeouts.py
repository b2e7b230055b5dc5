"""A call that has waited long enough goes on without the key."""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context
from dataclasses import replace
from typing import Any

import pytest
from backends import Sessions, on_sqlite
from models import Tag
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from waiting import until

from async_goc import (
    Event,
    KeyedLocks,
    Outcome,
    Policy,
    get_or_create,
)
from async_goc._databases import writer_of


def aside(work: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
    """A task that is not inside the transactions of this one."""
    return asyncio.create_task(work, context=Context())


async def test_timeout(
    sessions: Sessions,
    policy: Policy,
    locks: KeyedLocks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After wait_timeout the database decides, and a log record names the key."""
    events: list[Event] = []
    brief = replace(policy, wait_timeout=0.01, observer=events.append)
    with caplog.at_level(logging.WARNING, logger="async_goc"):
        async with sessions() as first, sessions() as second:
            await get_or_create(first, Tag, name="secret", policy=policy)
            call = asyncio.create_task(
                get_or_create(second, Tag, name="secret", policy=brief)
            )
            await until(lambda: locks.statistics().timeouts)
            await first.commit()
            tag, created = await call
    assert (tag.name, created) == ("secret", False)
    [happened] = events
    assert happened.outcome in {Outcome.LOST_RACE, Outcome.WAITED_HIT}
    assert 0.01 <= happened.waited < happened.elapsed
    [record] = caplog.records
    assert record.name == "async_goc"
    assert "Tag (name)" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_who_goes_on_without_the_key_is_waited_for(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """A call that went on without the key, and created the row, holds the key.

    Fails without `take` in `Turn.created`.
    """
    brief = replace(policy, wait_timeout=0.01)
    async with sessions() as first, sessions() as second, sessions() as third:
        await get_or_create(first, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(second, Tag, name="x", policy=brief))
        await until(lambda: locks.statistics().timeouts)
        await first.rollback()
        _, created = await call
        assert created
        call = asyncio.create_task(get_or_create(third, Tag, name="x", policy=policy))
        await until(lambda: locks.statistics().waiting)
        await second.commit()
        _, created = await call
        assert not created
    assert locks.statistics().held == 0


@on_sqlite
async def test_time_in_the_line_of_sqlite_does_not_count(
    engine: AsyncEngine, policy: Policy, locks: KeyedLocks
) -> None:
    """A call that stands there holds the key, and whoever asked would stand behind it.

    Fails without `is_in_line` in `Queues._send_scout`.
    """
    brief = replace(policy, wait_timeout=0)
    sessions = async_sessionmaker(engine)
    line = writer_of(engine.sync_engine).line()

    async def ask() -> bool:
        async with sessions.begin() as session:
            _, created = await get_or_create(session, Tag, name="x", policy=brief)
        return created

    async with sessions() as other:
        await other.execute(select(Tag))  # This begins a transaction, too.
        calls = [aside(ask())]
        await until(lambda: len(line._waiting) == 1)
        calls += [aside(ask()) for _ in range(2)]
        await until(lambda: locks.statistics().waiting == 2)
        for _ in range(9):
            await asyncio.sleep(0)
        assert (locks.statistics().timeouts, len(line._waiting)) == (0, 1)
    assert sorted(await asyncio.gather(*calls)) == [False, False, True]
