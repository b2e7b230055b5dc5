"""Models whose constructors are generated are inserted by one statement, too."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from made import Bare, Box, Child, Crate, Hero, Strict, Thing, create, create_tables
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import Policy, get_or_create, get_or_create_many

pytestmark = pytest.mark.one_driver

MODELS: list[type[Any]] = [Box, Crate, Thing, Bare, Hero]


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


ROWS: list[dict[str, Any]] = [
    {"name": "a", "size": 1},
    {"name": "b", "size": None},
    {"name": "c", "size": 0},
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("has_size", [False, True])
async def test_alike(
    session: AsyncSession, model: type[Any], *, has_size: bool
) -> None:
    """The same values are stored, and the objects hold the same, in each way."""
    await create_tables(session, model)
    rows = [*ROWS]
    if model is not Thing and not has_size:  # whose constructor needs it
        rows = [{"name": row["name"]} for row in rows]
    expected, _ = await create(session, model, rows, "savepoint")
    for way in ("native", "bulk"):
        assert await create(session, model, rows, way) == (expected, {"native"})


async def test_absent_parent(session: AsyncSession) -> None:
    """The parent's key is stored wherever a flush would store it.

    Fails without `sets_parent` in `_of_model`, on SQLAlchemy 2.0.
    """
    await create_tables(session, Child)
    thing = Thing("a", 1)
    session.add(thing)
    await session.flush()
    thing_id = thing.id
    rows = [{"name": "a", "size": thing_id}, {"name": "b"}]
    expected, _ = await create(session, Child, rows, "savepoint")
    for way in ("native", "bulk"):
        found, _ = await create(session, Child, rows, way)
        assert found[2:] == expected[2:]


@pytest.mark.parametrize("model", MODELS)
async def test_counts(
    session: AsyncSession, statements: list[str], model: type[Any]
) -> None:
    """A hit is one statement and a miss two; many rows take as many as few."""
    await create_tables(session, model)
    policy = Policy(strategy="native")
    how: Any = {"name": "x", "defaults": {"size": 1}, "policy": policy}
    sent: list[list[str]] = []
    for expected in (True, False):
        statements.clear()
        _, created = await get_or_create(session, model, **how)
        assert created is expected
        sent.append([*statements])
    assert sent == [["SELECT", "INSERT"], ["SELECT"]]
    sent.clear()
    for numbers in (range(3), range(3, 103)):
        rows = [{"name": f"n{number}", "size": number} for number in numbers]
        for _ in range(2):
            statements.clear()
            await get_or_create_many(session, model, rows, key="name")
            sent.append([*statements])
    miss = ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]
    assert sent == [miss, ["SELECT"]] * 2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Thing, TypeError),
        (Strict, IntegrityError),
    ],
)
async def test_missing_values(
    session: AsyncSession,
    statements: list[str],
    model: type[Any],
    expected: type[Exception],
) -> None:
    """What the constructor or the database demands, it demands in each way."""
    await create_tables(session, model)
    messages: set[str] = set()
    for way in ("savepoint", "native", "bulk"):
        statements.clear()
        with pytest.raises(expected) as caught:
            await create(session, model, [{"name": "a"}], way)
        messages.add(str(caught.value).splitlines()[0])
        if expected is TypeError:
            assert "INSERT" not in statements
        await session.rollback()
        await create_tables(session, model)
    assert len(messages) == 1
