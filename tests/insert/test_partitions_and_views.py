"""A conflict whose table is a partition's, or the one behind a view."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from backends import Sessions, on_postgres
from rivals import on_lost, rival
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import Policy, get_or_create, update_or_create
from async_goc.exceptions import SnapshotConflictError


class Base(DeclarativeBase):
    """Tables that only these tests have."""


class Hit(Base):
    """The table is partitioned."""

    __tablename__ = "hit"

    region: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int | None]


class Visit(Base):
    """A view of one table."""

    __tablename__ = "visit"

    region: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int | None]


class Seen(Base):
    """A view of a partitioned table."""

    __tablename__ = "seen"

    region: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int | None]


DDL = (
    """CREATE TABLE hit (region int, path text, n int, PRIMARY KEY (region, path))
    PARTITION BY LIST (region)""",
    "CREATE TABLE hit_1 PARTITION OF hit FOR VALUES IN (1) PARTITION BY HASH (path)",
    "CREATE TABLE hit_1a PARTITION OF hit_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    "CREATE UNIQUE INDEX hit_n ON hit (region, path, n)",
    "CREATE TABLE all_visits (LIKE hit INCLUDING ALL, note text, UNIQUE (region, n))",
    "CREATE VIEW visit AS SELECT path, region, n FROM all_visits WHERE note IS NULL",
    "CREATE VIEW seen AS SELECT region, path, n FROM hit",
)


@pytest.fixture
async def relations(engine: AsyncEngine) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        for statement in DDL:
            await connection.execute(text(statement))
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE hit, all_visits CASCADE"))


@pytest.mark.heavy
@on_postgres
@pytest.mark.usefixtures("relations")
@pytest.mark.parametrize("model", [Hit, Visit, Seen])
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_rivals(
    engine: AsyncEngine, sessions: Sessions, model: Any, level: str, verb: Any
) -> None:
    """In every cell as with a plain table.

    Fails without `relations_of` in `_constraint`: at REPEATABLE READ, and if the
    rival's row is deleted, the error is the INSERT's own.
    """
    for fate in ("committed", "rolled back", "deleted"):
        await end(engine, model, "deleted")
        row = {"region": 1, "path": "/"}
        async with (
            sessions() as session,
            on_lost(engine, partial(end, engine, model, fate)),
        ):
            await session.connection(execution_options={"isolation_level": level})
            await session.execute(text("SELECT 1"))
            come = partial(begin, engine, model(**row, n=2), fate)
            asked = verb(session, model, **row, defaults=come)
            # A native INSERT that meets a row beyond the snapshot ends the transaction.
            is_native = Policy().strategy == "native"
            is_met = fate == "committed" or (fate == "deleted" and is_native)
            if is_met and level == "REPEATABLE READ":
                with pytest.raises(SnapshotConflictError):
                    await asked
                continue
            found, created = await asked
            assert created is (fate != "committed")
            assert found.n == (2 if not created and verb is get_or_create else 3)
            await session.commit()


async def begin(engine: AsyncEngine, row: Any, fate: str) -> dict[str, Any]:
    async with AsyncSession(engine) as other:
        other.add(row)
        await other.flush()
        if fate != "rolled back":
            await other.commit()
    return {"n": 3}


async def end(engine: AsyncEngine, model: Any, fate: str) -> None:
    if fate == "deleted":
        async with engine.begin() as connection:
            await connection.execute(model.__table__.delete())


@on_postgres
@pytest.mark.usefixtures("relations")
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_what_the_view_does_not_show(
    engine: AsyncEngine, session: AsyncSession, level: str
) -> None:
    """Another constraint of the table behind it: the database's error, at once."""
    await rival(engine, Visit(region=1, path="/", n=2))()
    await session.connection(execution_options={"isolation_level": level})
    with pytest.raises(IntegrityError, match="region") as raised:
        await get_or_create(session, Visit, region=1, path="/b", defaults={"n": 2})
    assert "all_visits_region_n" in raised.value.__notes__[0]
