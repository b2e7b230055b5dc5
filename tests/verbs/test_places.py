"""Whatever says where a row belongs: a schema's name, several engines, a connection."""

from collections.abc import AsyncIterator
from inspect import signature
from typing import Any, Self

import pytest
from backends import POSTGRES, Sessions
from models import Page, Tag
from pooled import Label
from rivals import after_rival
from rows import count
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from async_goc import (
    Batch,
    GetOrCreator,
    Outcome,
    Policy,
    Stats,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

MAP = {"schema_translate_map": {None: "tenant"}}
PATHS: dict[str, Any] = {
    "asyncpg": {"server_settings": {"search_path": "tenant"}},
    "psycopg": {"options": "-c search_path=tenant"},
}
WAYS = [
    *("engine", "session", "connection", "listener"),
    *("bound with a map", "bound", "binds"),
]


@pytest.fixture
async def tenant(engine: AsyncEngine, url: str) -> AsyncIterator[AsyncEngine]:
    """Another place, which has the same table; by an engine of its own."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA tenant"))
        like = "CREATE TABLE tenant.tag (LIKE tag INCLUDING ALL)"
        await connection.execute(text(like))
    tenant = create_async_engine(url, connect_args=PATHS[engine.dialect.driver])
    yield tenant
    await tenant.dispose()
    async with engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA tenant CASCADE"))


@pytest.fixture(params=WAYS)
async def sessions(
    engine: AsyncEngine, tenant: AsyncEngine, request: pytest.FixtureRequest
) -> AsyncIterator[Sessions]:
    """Sessions whose tags are the tenant's."""
    how, way = {"expire_on_commit": False}, request.param
    if way == "engine":
        yield async_sessionmaker(engine.execution_options(**MAP), **how)
    elif way == "session":
        if "execution_options" not in signature(Session).parameters:
            pytest.skip("SQLAlchemy 2.0 has no options for sessions")
        yield async_sessionmaker(engine, execution_options=MAP, **how)
    elif way == "connection":
        yield async_sessionmaker(engine, class_=Connecting, **how)
    elif way == "listener":
        yield async_sessionmaker(engine, sync_session_class=Listened, **how)
    elif way == "binds":
        yield async_sessionmaker(
            binds={Page: engine, Tag: tenant, Label: tenant}, **how
        )
    elif way == "bound":
        async with tenant.connect() as connection:
            yield async_sessionmaker(connection, **how)
    else:
        async with engine.connect() as connection:
            await connection.execution_options(**MAP)
            yield async_sessionmaker(connection, **how)


class Listened(Session):
    """A session that hears of its connections."""


@event.listens_for(Listened, "after_begin")
def _(_: Session, __: object, connection: Connection) -> None:
    connection.execution_options(**MAP)


class Connecting(AsyncSession):
    """A session whose connection has the map."""

    async def __aenter__(self) -> Self:
        await self.connection(execution_options=MAP)
        return self


async def call(session: AsyncSession, verb: Any, policy: Policy, **values: Any) -> Any:
    """Call the verb for the tag "a"; return the tag, and whether it was created."""
    if verb in {get_or_create_many, update_or_create_many}:
        row = {"name": "a", **values}
        [result] = await verb(session, Tag, [row], key="name", policy=policy)
        return result
    return await verb(session, Tag, name="a", defaults=values, policy=policy)


VERBS = [get_or_create, update_or_create, get_or_create_many, update_or_create_many]


@pytest.mark.heavy
@pytest.mark.parametrize("backend", POSTGRES[:1], indirect=True)
@pytest.mark.parametrize("verb", VERBS)
async def test_verbs(
    engine: AsyncEngine, tenant: AsyncEngine, sessions: Sessions, verb: Any
) -> None:
    """The row is made, found and changed where it belongs, and nowhere else."""
    is_update = verb in {update_or_create, update_or_create_many}
    for strategy in ("savepoint", "native"):
        stats = Stats()
        policy = Policy(strategy=strategy, observer=stats)
        for colour, expected in (("red", True), ("blue", False)):
            async with sessions() as session:
                tag, created = await call(session, verb, policy, colour=colour)
                await session.commit()
                assert created is expected
                assert tag.colour == (colour if is_update else "red")
        assert stats[Outcome.CREATED] == 1
        await only_here(engine, tenant, colour="blue" if is_update else "red")


async def only_here(engine: AsyncEngine, tenant: AsyncEngine, **values: Any) -> None:
    """Check that the tenant has one tag, and nobody else any; delete it."""
    async with AsyncSession(engine) as session:
        assert await count(session) == 0
    async with AsyncSession(tenant) as session, session.begin():
        tag, created = await get_or_create(session, Tag, name="a")
        assert not created
        assert {name: getattr(tag, name) for name in values} == values
        assert await count(session) == 1
        await session.delete(tag)


@pytest.mark.heavy
@pytest.mark.parametrize("backend", POSTGRES[1:], indirect=True)
@pytest.mark.parametrize("verb", [*VERBS, get_or_create_ids])
async def test_lost_races(
    engine: AsyncEngine, tenant: AsyncEngine, sessions: Sessions, verb: Any
) -> None:
    """The rival's row is found where it belongs, and so are questions about it."""
    lookup: Any = {"name": "a"}
    if verb not in {get_or_create, update_or_create}:
        lookup = {"key": "name"}
    for strategy in ("savepoint", "native"):
        stats = Stats()
        policy = Policy(strategy=strategy, observer=stats)
        lookup["defaults"] = after_rival(tenant, Tag(name="a"), {"colour": "red"})
        async with sessions() as session:
            rows = [] if "name" in lookup else [["a"]]
            result = await verb(session, Tag, *rows, policy=policy, **lookup)
            [(_, created)] = result if rows else [result]
            await session.commit()
        assert not created
        assert stats[Outcome.LOST_RACE] == 1
        await only_here(engine, tenant)


# A creator does not enter its sessions as contexts; and what is heavy is run with an
# SQLAlchemy whose sessions have no options.
@pytest.mark.parametrize(
    "sessions",
    [
        way if way == "session" else pytest.param(way, marks=pytest.mark.heavy)
        for way in WAYS
        if way != "connection"
    ],
    indirect=True,
)
@pytest.mark.parametrize("backend", POSTGRES[:1], indirect=True)
async def test_others(
    engine: AsyncEngine, tenant: AsyncEngine, sessions: Sessions
) -> None:
    """A creator's calls, and an object's key, are as the sessions say."""
    for batch in (None, Batch()):
        creator = GetOrCreator(sessions, batch=batch)
        for expected in (True, False):
            tag, created = await creator.get_or_create(Tag, name="a")
            assert (tag.name, created) == ("a", expected)
        await only_here(engine, tenant)
    async with sessions() as session:
        label = await Label.as_unique(session, name="a")
        assert await Label.as_unique(session, name="a") is label
        locked, created = await get_or_create(
            session, Label, name="a", with_for_update=True
        )
        assert (locked is label, created) == (True, False)
        await session.commit()
    await only_here(engine, tenant)


@pytest.mark.heavy
@pytest.mark.parametrize("sessions", ["binds"], indirect=True)
@pytest.mark.parametrize("backend", POSTGRES, indirect=True)
async def test_two_engines_in_one_transaction(
    engine: AsyncEngine, tenant: AsyncEngine, sessions: Sessions
) -> None:
    """What one engine has written is left alone where a race is lost by the other.

    Rows of both are asked for in one session, by both strategies.
    """
    for verb in (get_or_create, update_or_create):
        for strategy in ("savepoint", "native"):
            policy = Policy(strategy=strategy)
            name = f"{verb.__name__} {strategy}"
            async with sessions() as session:
                session.add(Page(name=name))
                rival = after_rival(tenant, Tag(name="a"))
                tag, created = await verb(
                    session, Tag, name="a", defaults=rival, policy=policy
                )
                assert (tag.name, created) == ("a", False)
                page, created = await verb(session, Page, name=name, policy=policy)
                assert not created
                other, created = await verb(
                    session, Page, name=f"{name} too", policy=policy
                )
                assert created
                await session.commit()
            async with AsyncSession(engine) as session:
                kept = [await session.get(Page, each.id) for each in (page, other)]
                assert [each.name for each in kept if each] == [name, f"{name} too"]
            await only_here(engine, tenant)
