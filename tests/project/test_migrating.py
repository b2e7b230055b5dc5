"""What the helpers that people copy lose, as the document says."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from documents import blocks, run
from models import Note, Tag
from sqlalchemy import exc, func, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

import async_goc

# They take seconds, and no line of the package waits for them.
pytestmark = pytest.mark.heavy

Helper = Callable[..., Awaitable[Any]]
PAGE = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text()
REQUESTS = 20
on_asyncpg = pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
# Requests that fail, notes that are stored, and what the error of a CHECK becomes.
LOSSES: dict[str, tuple[int, int, str | None]] = {
    "look_add_commit": (19, 1, "IntegrityError"),
    "look_add_roll_back": (0, 1, "NoResultFound"),
    "look_add_in_savepoint": (0, 20, "NoResultFound"),
    "repository": (19, 1, "IntegrityError"),
    "unique_object": (19, 1, "IntegrityError"),
    "in_own_session": (0, 20, "NoResultFound"),
    "insert_where_not_exists": (19, 1, None),
    "on_conflict_do_nothing": (0, 20, "IntegrityError"),
    "get_or_create": (0, 20, "IntegrityError"),
}
# Those that begin with a SELECT, whose race is made certain.
LOOKS = [*LOSSES][:5]
# Those whose race is sure only if the first COMMIT comes when all others wait for it.
WAITS = ["insert_where_not_exists"]


@pytest.fixture
async def helpers(engine: AsyncEngine) -> AsyncIterator[dict[str, Helper]]:
    """What the document defines, once all of its blocks have run."""
    sessions = async_sessionmaker(engine)
    names: dict[str, Any] = {
        **{name: getattr(async_goc, name) for name in async_goc.__all__},
        "Tag": Tag,
        "DeclarativeBase": DeclarativeBase,
        "sessions": sessions,
    }
    async with sessions() as names["session"]:
        for block in blocks("python", PAGE):
            await run(block, names)
    names["repository"] = lambda session, model, **lookup: names["Repository"](
        session
    ).get_or_create(model, **lookup)
    in_own_session = names["in_own_session"]
    names["in_own_session"] = lambda _, model, **lookup: in_own_session(model, **lookup)
    insert = names["insert_where_not_exists"]
    names["insert_where_not_exists"] = lambda session, _, **lookup: insert(
        session, **lookup
    )
    # Each request has a connection, and some helpers take another.
    together = create_async_engine(engine.url, pool_size=2 * REQUESTS)
    names["together"] = together
    names["sessions"] = async_sessionmaker(together)
    yield names
    await together.dispose()


class Together(AsyncSession):
    """A session whose first SELECT ends when those of all others have."""

    barrier: asyncio.Barrier | None = None

    async def _looked(self) -> None:
        barrier, self.barrier = self.barrier, None
        if barrier is not None:
            await barrier.wait()

    async def scalar(self, *args: Any, **options: Any) -> Any:
        found = await super().scalar(*args, **options)
        await self._looked()
        return found

    async def scalars(self, *args: Any, **options: Any) -> Any:
        found = await super().scalars(*args, **options)
        await self._looked()
        return found


async def others_wait(engine: AsyncEngine) -> None:
    """Return when all requests but one wait for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(20), engine.connect() as connection:
        while await connection.scalar(waiting) < REQUESTS - 1:
            await connection.rollback()  # A transaction sees one state of it.


@on_asyncpg
@pytest.mark.parametrize("name", LOSSES)
async def test_what_a_helper_loses(helpers: dict[str, Any], name: str) -> None:
    """Twenty requests for one missing row, and one for a row that breaks a CHECK."""
    failed, kept, reported = LOSSES[name]
    helper, engine = helpers[name], helpers["together"]
    barrier = asyncio.Barrier(REQUESTS)

    async def handler(*, is_alone: bool = False, **values: Any) -> None:
        async with Together(engine) as session:
            session.add(Note())
            await session.flush()
            # (A request that queues in this process, or in an INSERT, waits there.)
            session.barrier = barrier if name in LOOKS and not is_alone else None
            await helper(session, Tag, **values)
            if name in WAITS:
                await others_wait(engine)
            await session.commit()

    requests = (handler(name="python-3") for _ in range(REQUESTS))
    results = await asyncio.gather(*requests, return_exceptions=True)
    errors = [result for result in results if result is not None]
    assert all(isinstance(error, exc.IntegrityError) for error in errors)
    async with AsyncSession(engine) as session:
        notes = await session.scalar(select(func.count()).select_from(Note))
        assert await session.scalar(select(Tag).filter_by(name="python-3")) is not None
    assert (len(errors), notes) == (failed, kept)
    if reported is not None:
        [error] = await asyncio.gather(
            handler(is_alone=True, name="c", colour="bad"), return_exceptions=True
        )
        assert type(error).__name__ == reported
        notes_of = getattr(error, "__notes__", [])
        assert bool(notes_of) is (name == "get_or_create")


@on_asyncpg
async def test_a_session_of_its_own_starves(helpers: dict[str, Any]) -> None:
    """Requests that hold all connections, and each wait for another, all fail."""
    engine = create_async_engine(helpers["together"].url, pool_size=2, max_overflow=0)
    engine.pool._timeout = 0.1
    helpers["sessions"].configure(bind=engine)
    barrier = asyncio.Barrier(2)

    async def handler() -> None:
        async with AsyncSession(engine) as session:
            await session.connection()
            await barrier.wait()
            await helpers["in_own_session"](session, Tag, name="d")

    results = await asyncio.gather(handler(), handler(), return_exceptions=True)
    await engine.dispose()
    assert [type(result) for result in results] == [exc.TimeoutError] * 2


def test_the_table_says_what_was_measured() -> None:
    """The document's table has a row for each helper, with these figures."""
    rows = re.findall(r"^\| ([^|]+) \| ([\w ]*\d) \| (\S*) ?\|", PAGE, re.MULTILINE)
    found = [(failed.split()[-1], kept.strip("*")) for _, failed, kept in rows]
    assert found == [(str(failed), str(kept)) for failed, kept, _ in LOSSES.values()]
