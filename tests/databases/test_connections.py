"""What is known of a session's connections without asking for one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import Tag
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc._databases.connections import connections_of

SCRIPT = """
import asyncio

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session


@event.listens_for(Session, "after_begin")
def refuse(*_):
    raise KeyError


from async_goc._databases.connections import connections_of


async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(engine) as session:
        try:
            await session.execute(text("SELECT 1"))
        except KeyError:
            print(len(connections_of(session.sync_session)))
    await engine.dispose()


asyncio.run(main())
"""


async def test_from_the_first_statement_to_the_end(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A transaction holds none before its first statement; a savepoint adds none."""
    sync = session.sync_session
    session.add(Tag(name="a"))
    assert not connections_of(sync)
    async with session.begin_nested():
        await session.execute(select(Tag))
        assert [held.engine for held in connections_of(sync)] == [engine.sync_engine]
    await session.commit()
    assert not connections_of(sync)


async def test_a_session_that_is_bound_to_a_connection(engine: AsyncEngine) -> None:
    """The connection is in use before the session has begun."""
    async with engine.connect() as connection, AsyncSession(connection) as session:
        assert list(connections_of(session.sync_session)) == [
            connection.sync_connection
        ]


@pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
def test_where_a_listener_of_the_callers_raises(backend: str, tmp_path: Path) -> None:
    """The connection has been taken all the same, and is known.

    Fails without `insert`, an argument of the listener.
    """
    assert backend
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-P", script],
        env=dict(os.environ),
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["1"]
