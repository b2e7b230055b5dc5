"""A call that has waited long enough goes on without the key."""

import asyncio
import logging
from dataclasses import replace

import pytest
from backends import Sessions
from models import Tag
from waiting import until

from async_goc import (
    Event,
    KeyedLocks,
    Outcome,
    Policy,
    get_or_create,
)


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
