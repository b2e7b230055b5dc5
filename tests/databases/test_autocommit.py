"""PostgreSQL without transactions: no SAVEPOINT, no lock, nothing to undo."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from backends import POSTGRES
from models import Tag
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from async_goc import Policy, get_or_create, get_or_create_many, update_or_create
from async_goc._models import private

pytestmark = pytest.mark.parametrize("backend", POSTGRES, indirect=True)
AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}
PLACES = ["create_engine", "engine", "connection", "bound connection"]


@asynccontextmanager
async def in_autocommit(url: str, place: str) -> AsyncIterator[AsyncSession]:
    """A session that is in AUTOCOMMIT by what is said in that place."""
    options = AUTOCOMMIT if place == "create_engine" else {}
    engine = create_async_engine(url, **options)
    if place == "engine":
        engine = engine.execution_options(**AUTOCOMMIT)
    async with engine.connect() as connection:
        if place == "bound connection":
            await connection.execution_options(**AUTOCOMMIT)
            bind: Any = connection
        else:
            bind = engine
        async with AsyncSession(bind) as session:
            if place == "connection":
                await session.connection(execution_options=AUTOCOMMIT)
            yield session
    await engine.dispose()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", ["get_or_create", "update_or_create", "many"])
@pytest.mark.parametrize("has_locks", [True, False])
async def test_a_clear_error(url: str, place: str, verb: str, has_locks: bool) -> None:
    """The call says what to do before a row is lost, and before any SQL if it can.

    Fails without `refuse_autocommit` in `find_or_insert`.
    """
    policy = Policy() if has_locks else Policy(locks=None)
    async with in_autocommit(url, place) as session:
        statements: list[str] = []
        engine = session.get_bind().engine
        listener = lambda *args: statements.append(args[2])  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        if verb == "many":
            asked: Any = get_or_create_many(
                session, Tag, [{"name": "a"}], key="name", policy=policy
            )
        elif verb == "update_or_create":
            asked = update_or_create(session, Tag, name="a", policy=policy)
        else:
            asked = get_or_create(session, Tag, name="a", policy=policy)
        with pytest.raises(ValueError, match="AUTOCOMMIT"):
            await asked
        # A call that has a connection, or no queue, looks first: a hit needs no more.
        looks_first = verb == "get_or_create" and (
            "connection" in place or not has_locks
        )
        assert len(statements) == looks_first
        event.remove(engine, "before_cursor_execute", listener)
        assert (await session.scalars(select(Tag))).all() == []


async def test_a_connection_with_transactions(url: str) -> None:
    """What is asked of the connection counts more than what the engine gives it."""
    async with in_autocommit(url, "create_engine") as session:
        level = {"isolation_level": "READ COMMITTED"}
        await session.connection(execution_options=level)
        _, created = await get_or_create(session, Tag, name="a")
        assert created
        await session.rollback()


async def test_the_option_of_a_session(url: str) -> None:
    """Since SQLAlchemy 2.1, a session has options for its connections."""
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session:
        session.sync_session.execution_options = AUTOCOMMIT
        with pytest.raises(ValueError, match="AUTOCOMMIT"):
            await get_or_create(session, Tag, name="a")
    await engine.dispose()


async def test_without_the_private_name(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine was created with is then not known, and nothing breaks."""
    monkeypatch.setattr(private, "LEVEL_ON_CONNECT", "_nowhere")
    policy = Policy(strategy="native")
    async with in_autocommit(url, "create_engine") as session:
        _, created = await get_or_create(session, Tag, name="a", policy=policy)
        assert created
