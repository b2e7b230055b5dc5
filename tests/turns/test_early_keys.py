"""A key that is made before the call's objects is the one that they would make."""

import asyncio
from dataclasses import replace

import pytest
from backends import on_postgres
from models import Tag
from sqlalchemy import Connection, delete, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from waiting import until

from async_goc import KeyedLocks, Policy, get_or_create

pytestmark = pytest.mark.one_driver


@pytest.fixture
async def quiet(engine: AsyncEngine, policy: Policy) -> Policy:
    """A policy without an observer, by which "known" has been there."""
    quiet = replace(policy, observer=None)
    async with AsyncSession(engine) as session, session.begin():
        await get_or_create(session, Tag, name="known", policy=quiet)
    return quiet


@on_postgres
async def test_engine_of_the_model(engine: AsyncEngine, quiet: Policy) -> None:
    """The model may have an engine of its own, which may be in AUTOCOMMIT.

    Fails without `get_bind` in `early_key`.
    """
    auto = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine, binds={Tag: auto}) as session:
        with pytest.raises(ValueError, match="AUTOCOMMIT"):
            await get_or_create(session, Tag, name="x", policy=quiet)


@on_postgres
async def test_listener_that_changes_the_connection(
    engine: AsyncEngine, quiet: Policy
) -> None:
    """What is known of a row holds until the call has looked, and no longer.

    Fails without `look_plainly` in `plain_start`.
    """
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(delete(Tag))

    def commit_each(connection: Connection) -> None:
        connection.execution_options(isolation_level="AUTOCOMMIT")

    event.listen(engine.sync_engine, "engine_connect", commit_each)
    async with AsyncSession(engine) as session:
        with pytest.raises(ValueError, match="AUTOCOMMIT"):
            await get_or_create(session, Tag, name="known", policy=quiet)


@on_postgres
async def test_without_an_engine_of_its_own(
    engine: AsyncEngine, quiet: Policy, locks: KeyedLocks
) -> None:
    """A session that has engines for its models only makes the same keys."""
    async with (
        AsyncSession(engine) as first,
        AsyncSession(binds={Tag: engine}) as other,
    ):
        await get_or_create(first, Tag, name="x", policy=quiet)
        call = asyncio.create_task(get_or_create(other, Tag, name="x", policy=quiet))
        await until(lambda: locks.statistics().waiting)
        await first.commit()
        assert not (await call)[1]
