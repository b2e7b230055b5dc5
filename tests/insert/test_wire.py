"""Round trips, counted on the wire; BEGIN and COMMIT aside."""

from collections.abc import AsyncIterator

import pytest
from backends import on_postgres
from models import Tag
from rivals import after_rival
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from wire import Wire, wire

from async_goc import Policy, get_or_create

pytestmark = on_postgres


@pytest.fixture
async def on_wire(url: str) -> AsyncIterator[tuple[Wire, AsyncSession]]:
    """A session in the middle of a transaction, and what counts its round trips."""
    server = make_url(url)
    assert server.host is not None
    assert server.port is not None
    async with wire(server.host, server.port) as (counter, port):
        engine = create_async_engine(server.set(port=port))
        async with AsyncSession(engine) as session:
            await session.execute(select(1))
            yield counter, session
        await engine.dispose()


@pytest.mark.parametrize(
    ("strategy", "miss", "lost"), [("savepoint", 4, 5), ("native", 2, 3)]
)
async def test_round_trips(
    engine: AsyncEngine,
    on_wire: tuple[Wire, AsyncSession],
    strategy: str,
    miss: int,
    lost: int,
) -> None:
    """However many calls a transaction has had, each costs the least.

    Fails without `reset_savepoint_count`: asyncpg prepares each new SAVEPOINT.
    """
    wire, session = on_wire
    policy = Policy(strategy=strategy)
    for name in "abcdefgh":  # The drivers prepare a statement when they know it.
        rival = after_rival(engine, Tag(name=f"{name} lost"))
        trips: list[int] = []
        for key, defaults in ((name, None), (name, None), (f"{name} lost", rival)):
            before = wire.trips
            _, created = await get_or_create(
                session, Tag, name=key, defaults=defaults, policy=policy
            )
            assert created is (not trips)
            trips.append(wire.trips - before)
    assert trips == [miss, 1, lost]
