"""Exclusion constraints conflict as unique ones do, and not only of equal values."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from backends import POSTGRES
from rivals import after_rival, on_lost, rival
from sqlalchemy import delete, text
from sqlalchemy.dialects.postgresql import INT4RANGE, ExcludeConstraint, Range
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import Event, Policy, get_or_create, update_or_create
from async_goc.exceptions import SnapshotConflictError

pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
]
verbs = pytest.mark.parametrize("verb", [get_or_create, update_or_create])
MORNING, NOON = Range(8, 12), Range(11, 14)


class Base(DeclarativeBase):
    """Tables that only these tests have."""


class Booking(Base):
    __tablename__ = "booking"
    __table_args__ = (
        ExcludeConstraint(("room", "="), ("hours", "&&"), name="no_overlap"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[Range[int]] = mapped_column(INT4RANGE)
    hours: Mapped[Range[int]] = mapped_column(INT4RANGE)
    note: Mapped[str | None]


ROOM = Range(1, 2)


@pytest.fixture(autouse=True)
async def own_table(engine: AsyncEngine) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def policy(events: list[Event]) -> Policy:
    return Policy(observer=events.append, missing_constraint="ignore")


@verbs
async def test_lost_race(
    engine: AsyncEngine, session: AsyncSession, verb: Any, policy: Policy
) -> None:
    """A rival's equal row is a lost race.

    Fails without `_DUPLICATE` in `is_duplicate_key`: IntegrityError.
    """
    key = {"room": ROOM, "hours": MORNING}
    defaults = after_rival(engine, Booking(**key, note="rival"), {"note": "mine"})
    found, created = await verb(
        session, Booking, defaults=defaults, policy=policy, **key
    )
    expected = "rival" if verb is get_or_create else "mine"
    assert (found.note, created) == (expected, False)


@verbs
async def test_vanished_rival(
    engine: AsyncEngine, session: AsyncSession, verb: Any, policy: Policy
) -> None:
    """Whatever overlapped, and has gone, costs another attempt.

    Fails without `exclusion` in `_constraint`: IntegrityError.
    """

    async def go() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(Booking))

    defaults = after_rival(engine, Booking(room=ROOM, hours=NOON), {"note": "mine"})
    async with on_lost(engine, go):
        found, created = await verb(
            *(session, Booking),
            defaults=defaults,
            policy=policy,
            room=ROOM,
            hours=MORNING,
        )
    assert (found.note, created) == ("mine", True)


@verbs
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_row_that_overlaps(
    engine: AsyncEngine,
    session: AsyncSession,
    verb: Any,
    level: str,
    policy: Policy,
    events: list[Event],
) -> None:
    """A row that only overlaps is another one: the database's error, at once.

    Fails without `operators` in `HeldKey._conflicts`: ContentionError.
    """
    await rival(engine, Booking(room=ROOM, hours=NOON))()
    await session.connection(execution_options={"isolation_level": level})
    asked = verb(session, Booking, policy=policy, room=ROOM, hours=MORNING)
    with pytest.raises(IntegrityError) as raised:
        await asked
    assert "no_overlap" in raised.value.__notes__[0]
    assert [event.attempts for event in events] == [1]


async def test_beyond_the_snapshot(
    engine: AsyncEngine, session: AsyncSession, policy: Policy
) -> None:
    """At REPEATABLE READ, a rival's row asks for the whole transaction again."""
    level = {"isolation_level": "REPEATABLE READ"}
    await session.connection(execution_options=level)
    await session.execute(text("SELECT 1"))
    key = {"room": ROOM, "hours": MORNING}
    rival = after_rival(engine, Booking(**key))
    with pytest.raises(SnapshotConflictError):
        await get_or_create(session, Booking, defaults=rival, policy=policy, **key)


async def test_constraint_that_the_model_does_not_know(
    engine: AsyncEngine, session: AsyncSession, policy: Policy
) -> None:
    """Its operators are not known either: the database's error, at once."""
    async with engine.begin() as connection:
        await connection.execute(
            text("ALTER TABLE booking ADD CONSTRAINT own EXCLUDE (note WITH =)")
        )
    await rival(engine, Booking(room=ROOM, hours=NOON, note="x"))()
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(
            session, Booking, note="x", room=ROOM, hours=Range(1, 2), policy=policy
        )
    assert "violated own" in raised.value.__notes__[0]
