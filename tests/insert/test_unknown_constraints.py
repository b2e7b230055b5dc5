"""Conflicts on constraints that the model does not know, and in other tables."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from backends import POSTGRES
from models import Loose, Tag
from rivals import after_rival, on_lost
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import Policy, get_or_create

pytestmark = pytest.mark.parametrize("backend", POSTGRES, indirect=True)


@pytest.fixture
async def quota(engine: AsyncEngine) -> AsyncIterator[None]:
    """A trigger that raises unique_violation, with a constraint of its own making."""
    function = (
        "CREATE FUNCTION quota() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE unique_violation USING CONSTRAINT = 'quota', TABLE = 'tag'; END $$"
    )
    trigger = "CREATE TRIGGER quota BEFORE INSERT ON tag EXECUTE FUNCTION quota()"
    async with engine.begin() as connection:
        await connection.execute(text(function))
        await connection.execute(text(trigger))
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP FUNCTION quota CASCADE"))


@pytest.mark.usefixtures("quota")
async def test_violation_that_a_trigger_makes_up(session: AsyncSession) -> None:
    """A violation of an unknown constraint is raised as the database reports it."""
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Tag, name="red")
    assert "violated quota" in raised.value.__notes__[0]


@pytest.fixture
async def own_indexes(engine: AsyncEngine) -> AsyncIterator[None]:
    """Unique indexes that the model does not know: columns, an expression, partial."""
    indexes = {
        "own": "(made_at)",
        "low": "(lower(name))",
        "part": "(made_at) WHERE name LIKE 'p%'",
    }
    async with engine.begin() as connection:
        for name, what in indexes.items():
            statement = f"CREATE UNIQUE INDEX {name} ON loose {what}"
            await connection.execute(text(statement))
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP INDEX IF EXISTS own, low, part"))


@pytest.mark.usefixtures("own_indexes")
async def test_constraint_that_the_model_does_not_know(session: AsyncSession) -> None:
    """The error names an index of the database's own."""
    row, _ = await get_or_create(session, Loose, name="x")
    other = row.made_at + timedelta(days=1)
    for name, time, index in (("y", row.made_at, "own"), ("X", other, "low")):
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(session, Loose, name=name, defaults={"made_at": time})
        assert f"violated {index}" in raised.value.__notes__[0]


@pytest.mark.usefixtures("own_indexes")
async def test_index_that_the_model_does_not_know_is_more_than_its_columns(
    session: AsyncSession,
) -> None:
    """A partial index is not taken for a constraint on all rows."""
    await session.execute(text("DROP INDEX own"))
    time = datetime(2020, 1, 1)  # noqa: DTZ001
    await get_or_create(session, Loose, name="p1", defaults={"made_at": time})
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Loose, Loose.name != "p1", made_at=time, name="p2")
    assert "violated part" in raised.value.__notes__[0]
    await session.commit()


@pytest.mark.usefixtures("own_indexes")
async def test_rival_of_an_unknown_constraint_vanishes(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The database says what its index covers: the lookup; so another attempt."""
    time = datetime(2020, 1, 1)  # noqa: DTZ001

    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM loose"))

    rival = after_rival(engine, Loose(name="a", made_at=time), {"name": "b"})
    async with on_lost(engine, vanish):
        row, created = await get_or_create(
            session,
            Loose,
            made_at=time,
            defaults=rival,
            policy=Policy(missing_constraint="ignore"),
        )
    assert (row.name, created) == ("b", True)


@pytest.fixture
async def trigger(engine: AsyncEngine) -> AsyncIterator[None]:
    """Each new tag makes a loose row of the same name, by a trigger."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "INSERT INTO loose (name) VALUES (new.name); RETURN new; END $$"
            )
        )
        await connection.execute(
            text(
                "CREATE TRIGGER copy AFTER INSERT ON tag "
                "FOR EACH ROW EXECUTE FUNCTION copy()"
            )
        )
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER copy ON tag"))
        await connection.execute(text("DROP FUNCTION copy"))


@pytest.mark.usefixtures("trigger")
async def test_conflict_in_another_table(session: AsyncSession) -> None:
    """A conflict that a trigger meets in another table is not ours."""
    session.add(Loose(name="red"))
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Tag, name="red")
    assert "loose_name_key" in raised.value.__notes__[0]


async def test_rival_without_a_value_vanishes(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """NULLs that are not distinct conflict, and the table is asked for NULL.

    Fails without `is_` in `HeldKey._conflicts`.
    """
    async with engine.begin() as connection:
        await connection.execute(
            text("CREATE UNIQUE INDEX one ON tag (colour) NULLS NOT DISTINCT")
        )
    try:
        async with AsyncSession(engine) as other, other.begin():
            other.add(Tag(name="a"))
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                *(session, Tag, Tag.name != "a"),
                colour=None,
                defaults={"name": "b"},
                policy=Policy(missing_constraint="ignore"),
            )
        assert "violated one" in raised.value.__notes__[0]
        await session.rollback()
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DROP INDEX one"))
