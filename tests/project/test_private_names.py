"""Without a private name of SQLAlchemy, calls lose speed and nothing else."""

from typing import Any

import pytest
from models import Tag
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from async_goc import Event, Policy, get_or_create, get_or_create_many
from async_goc._models import private


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
