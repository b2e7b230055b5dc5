"""Without a private name of SQLAlchemy, calls lose speed and nothing else."""

import asyncio
from typing import Any

import pytest
from backends import Sessions, on_postgres
from models import Tag
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker
from waiting import until

from async_goc import (
    Event,
    GetOrCreator,
    Policy,
    get_or_create,
    get_or_create_many,
)
from async_goc._databases import connections_of
from async_goc._models import SessionEars, is_executing, private


@pytest.mark.parametrize("name", ["REGISTER_PERSISTENT", "NEW_IN_TRANSACTION"])
async def test_rows_are_flushed_where_sqlalchemy_cannot_be_told_of_them(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One row and many are inserted by the unit of work, and undone by a rollback.

    Fails without `can_register` in `_obstacles`.
    """
    monkeypatch.setattr(private, name, "_nowhere")
    events: list[Event] = []
    policy = Policy(strategy="native", observer=events.append)
    tag, created = await get_or_create(session, Tag, name="a", policy=policy)
    assert created
    rows = [{"name": "a"}, {"name": "b"}]
    (_, again), (other, new) = await get_or_create_many(
        session, Tag, rows, key="name", policy=policy
    )
    assert (again, new) == (False, True)
    assert [event.strategy for event in events] == ["savepoint", "savepoint"]
    await session.rollback()
    assert tag not in session
    assert other not in session


async def test_rows_are_pending_first_where_they_have_to_be(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new row is as persistent as ever, and undone by a rollback.

    Fails without `hasattr` in `may_skip_pending`.
    """
    monkeypatch.setattr(private, "COMMIT_VALUES", "_nowhere")
    native = Policy(strategy="native")
    tag, created = await get_or_create(session, Tag, name="a", policy=native)
    assert created
    assert tag in session
    assert tag not in session.dirty
    await session.rollback()
    assert tag not in session


@pytest.mark.parametrize("name", ["LISTENERS_OF_CLASS", "ANOTHER"])
def test_listeners_of_sessions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session hears what it, its class and all sessions hear, as long as they do.

    Fails without `read`, and without `of_class`, in `SessionEars.hear`.
    """
    monkeypatch.setattr(private, name, "nowhere", raising=False)
    own = type("Own", (Session,), {})
    ears = SessionEars("before_flush", "after_flush")
    before = own()
    assert not ears.hear(before)
    one, maker = own(), sessionmaker(class_=own)
    listening: list[tuple[Any, Any]]
    listening = [(own, own), (Session, own), (maker, maker), (one, lambda: one)]
    for target, make in listening:
        event.listen(target, "after_flush", print)
        after = make()
        assert ears.hear(after)
        assert ears.hear(before) is (target in {own, Session})
        event.remove(target, "after_flush", print)
        assert not ears.hear(after)


@pytest.mark.parametrize("strategy", ["savepoint"], indirect=True)
async def test_savepoints_have_names_of_their_own_without_the_count(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLAlchemy counts its SAVEPOINTs elsewhere, a call goes on."""
    monkeypatch.setattr(private, "SAVEPOINT_COUNT", "_nowhere")
    for name in "ab":
        _, created = await get_or_create(session, Tag, name=name)
        assert created
    connection = await session.connection()
    assert not hasattr(connection.sync_connection, "_nowhere")


@on_postgres
async def test_a_statement_under_way_is_seen(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver tells it, or the adapter's lock does; without either, none is seen.

    Fails without `is_executing` in `TransactionOwner.is_executing`.
    """
    lock = text("SELECT pg_advisory_xact_lock(1)")
    async with sessions() as one, sessions() as other:
        await one.execute(lock)
        await other.connection()
        [connection] = connections_of(other.sync_session)
        assert not is_executing(connection)
        call = asyncio.create_task(other.execute(lock))
        await until(lambda: is_executing(connection))
        has_status = connection.dialect.driver == "psycopg"
        monkeypatch.setattr(private, "STATEMENT_LOCK", "_nowhere")
        assert is_executing(connection) is has_status
        await one.rollback()
        await call
        await other.invalidate()
        assert not is_executing(connection)


async def test_session_cannot_be_asked_as_in_a_flush(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLAlchemy notes a flush elsewhere, a session that routes goes on."""
    monkeypatch.setattr(private, "FLUSHING", "nowhere")

    class Routed(Session):
        def get_bind(self, *_: Any, **__: Any) -> Any:
            return engine.sync_engine

    async with AsyncSession(sync_session_class=Routed) as session:
        for expected in (True, False):
            _, created = await get_or_create(session, Tag, name="a")
            assert created is expected


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_names_of_statements_cannot_be_seen(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLAlchemy keeps them elsewhere, a creator takes them for the driver's."""
    names = {"prepared_statement_name_func": lambda: ""}
    lanes: list[str | None] = []
    policy = Policy(observer=lambda event: lanes.append(event.lane))
    for name in (private.STATEMENT_NAMES, "_nowhere"):
        monkeypatch.setattr(private, "STATEMENT_NAMES", name)
        engine = create_async_engine(url, connect_args=names)
        creator = GetOrCreator(async_sessionmaker(engine), policy=policy)
        await creator.get_or_create(Tag, name="a")
        await engine.dispose()
    assert lanes == ["session", "driver"]
