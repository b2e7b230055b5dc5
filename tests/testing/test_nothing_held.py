"""Transactions that a test has left open."""

import asyncio
import re

import pytest
from backends import Sessions, on_sqlite
from models import Tag
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import KeyedLocks, Policy, get_or_create
from async_goc.testing import assert_nothing_held

pytestmark = on_sqlite


async def test_an_open_transaction(session: AsyncSession) -> None:
    """The error names the model, the columns and the time, and no value."""
    assert_nothing_held()
    await get_or_create(session, Tag, name="secret")
    with pytest.raises(AssertionError) as raised:
        assert_nothing_held()
    text = str(raised.value)
    assert re.match(r"1 key is held: Tag \(name\) for [\d.e-]+ s\. Commit", text)
    assert "secret" not in text
    await session.commit()
    assert_nothing_held()


async def test_several_keys_in_any_registry(
    session: AsyncSession, locks: KeyedLocks
) -> None:
    """All are named, by the table where the model is not known."""
    await get_or_create(session, Tag, name="a", policy=Policy(locks=locks))
    lowered = Policy(missing_constraint="ignore")
    lookup = func.lower(Tag.name) == "b"
    await get_or_create(session, Tag, lookup, defaults={"name": "B"}, policy=lowered)
    with pytest.raises(AssertionError) as raised:
        assert_nothing_held()
    text = str(raised.value)
    assert text.startswith("2 keys are held: Tag (name) for ")
    assert "the table tag (an expression) for " in text
    await session.rollback()
    assert_nothing_held()


@pytest.mark.filterwarnings("ignore:The garbage collector:sqlalchemy.exc.SAWarning")
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
async def test_a_transaction_that_ended_unannounced(
    sessions: Sessions, locks: KeyedLocks
) -> None:
    """What it held is there for the next one that wants it, and so it is not held.

    Fails without `is_alive` in `held_keys`.
    """
    session = sessions()
    await get_or_create(session, Tag, name="a", policy=Policy(locks=locks))
    root = session.sync_session.get_transaction()
    closing = asyncio.create_task(session.close())
    await asyncio.sleep(0)  # It has sent the ROLLBACK.
    closing.cancel()
    await asyncio.wait([closing])
    assert root is not None
    assert locks.statistics().held == 1
    assert_nothing_held()
