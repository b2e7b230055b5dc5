"""A hot standby that lags, behind a session that routes reads to it."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pooled
import pytest
import servers
from backends import POSTGRES
from models import Tag
from sqlalchemy import (
    Connection,
    Delete,
    Engine,
    Update,
    create_engine,
    event,
    insert,
    text,
)
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from async_goc import KeyedLocks, Policy
from async_goc._call.policy import Strategy

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[str, str]]:
    """A primary, and a standby that is always 300 ms behind; both have one row."""
    with servers.postgres() as primary:
        engine = create_engine(f"postgresql+psycopg://{primary}/postgres")
        with engine.begin() as connection:
            Tag.__table__.create(connection)  # type: ignore[attr-defined]
            connection.execute(insert(Tag).values(name="old", colour="red"))
        engine.dispose()
        delay = {"recovery_min_apply_delay": "300ms"}
        with servers.standby(primary, **delay) as standby:
            yield primary, standby


@pytest.fixture
async def engines(
    pair: tuple[str, str], backend: str
) -> AsyncIterator[list[AsyncEngine]]:
    """For the primary, and for the standby."""
    engines = [create_async_engine(f"{backend}://{at}/postgres") for at in pair]
    yield engines
    for engine in engines:
        await engine.dispose()


def routed(writer: Engine, reader: Engine) -> type[Session]:
    """A session as in SQLAlchemy's documentation of custom vertical partitioning."""

    class RoutingSession(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            assert mapper is None or mapper.class_
            if self._flushing or isinstance(clause, Update | Delete):
                return writer
            return reader

    return RoutingSession


def statements(engine: AsyncEngine) -> list[str]:
    """What is sent to it from now on, BEGIN aside."""
    sent: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return sent


@pytest.mark.parametrize(
    ("backend", "strategy"),
    [(POSTGRES[0], "native"), (POSTGRES[1], "savepoint")],
    indirect=True,
)
async def test_standby(
    engines: list[AsyncEngine], backend: str, strategy: Strategy
) -> None:
    """All verbs are right while the standby lags: only a first look ever goes there.

    Four tasks ask for the same names, by each verb, again and again, for as long as it
    takes the standby to have the rows, and then once more.

    Fails without `use_writer` in `_look`.
    """
    writer, reader = engines
    kind = routed(writer.sync_engine, reader.sync_engine)
    sessions = async_sessionmaker(sync_session_class=kind)
    policy = Policy(strategy=strategy, locks=KeyedLocks())
    clients = pooled.Clients(sessions, policy)
    created: Counter[str] = Counter()
    reads, calls = statements(reader), 0
    names = [f"{strategy} {backend} {number}" for number in range(3)]

    async def work(way: str, seed: int) -> None:
        nonlocal calls
        mine = [f"{way} {name}" for name in names]
        random.Random(seed).shuffle(mine)  # noqa: S311
        created.update(await getattr(clients, way)(mine))
        calls += 1 if way.endswith("_many") else len(mine)

    async def all_ways() -> None:
        for way in pooled.WAYS:
            async with asyncio.TaskGroup() as group:
                for seed in range(4):
                    group.create_task(work(way, seed))

    await all_ways()
    async with reader.connect() as connection:
        arrived = text("SELECT count(*) FROM tag WHERE name = :name")
        last = {"name": f"{pooled.WAYS[-1]} {names[-1]}"}
        async with asyncio.timeout(10):
            while not await connection.scalar(arrived, last):
                await connection.rollback()
    await all_ways()
    writes = statements(writer)
    await clients.get([f"get {name}" for name in names])
    assert writes == []
    calls += len(names)
    assert created == {f"{way} {name}": 1 for way in pooled.WAYS for name in names}
    looks = [statement for statement in reads if "count(*)" not in statement]
    assert {look.partition(" ")[0] for look in looks} == {"SELECT"}
    assert not any(" FOR " in look for look in looks)
    assert len(looks) <= calls
