"""Values are compared as a flush compares them, and never asked for their truth."""

from typing import Any

import pytest
from backends import before_sql
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from vague import Vague, Vector

from async_goc import Policy, get_or_create, update_or_create, update_or_create_many
from async_goc.exceptions import ContradictionError

pytestmark = pytest.mark.one_driver

quiet = Policy(missing_constraint="ignore")


@pytest.mark.parametrize("name", ["pickled", "vector"])
async def test_update(session: AsyncSession, name: str) -> None:
    """What cannot be compared is stored, as if it had changed.

    Fails, as arrays do, if their comparison is asked for its truth.
    """
    values = [Vector([0, 0]), Vector([0, 0]), Vector([1, 1]), Vector([1]), None]
    for value in values:
        await update_or_create(session, Vague, name="a", defaults={name: value})
        await update_or_create_many(
            session, Vague, [{"name": "b", name: value}], key="name"
        )
        session.expunge_all()
        rows = (await session.scalars(select(Vague))).all()
        for stored in (getattr(row, name) for row in rows):
            assert stored is value or list(stored) == list(value)
        assert len(rows) == 2


@pytest.mark.parametrize("value", [Vector([0, 0]), Vector([1])])
async def test_lookup(session: AsyncSession, value: Vector) -> None:
    """Nothing says that two such values contradict each other.

    Fails without `compare` in `differs`.
    """
    lookup: dict[str, Any] = {"name": "a", "pickled": Vector([0, 0])}
    row, created = await get_or_create(
        session,
        Vague,
        Vague.pickled == Vector([0, 0]),
        defaults={"pickled": value},
        policy=quiet,
        **lookup,
    )
    assert created
    assert [*row.pickled] == [*value]
    with pytest.raises(ContradictionError):
        await get_or_create(
            session, Vague, defaults={"pickled": None}, policy=quiet, **lookup
        )


async def test_type_that_compares(session: AsyncSession, statements: list[str]) -> None:
    """The column's type says which values are the same."""
    word, _ = await get_or_create(
        session,
        Vague,
        Vague.word == "RED",
        word="red",
        defaults={"word": "Red", "name": "a"},
    )
    assert word.word == "Red"
    for wrong in ({"defaults": {"word": "blue"}}, {"word": "blue"}):
        with pytest.raises(ContradictionError):
            await get_or_create(session, Vague, Vague.word == "RED", **wrong)
    statements.clear()
    await update_or_create(session, Vague, name="a", defaults={"word": "RED"})
    assert "UPDATE" not in statements


@before_sql
async def test_array_by_mistake(session: AsyncSession, statements: list[str]) -> None:
    """An array where loader options belong is refused as any other value is."""
    with pytest.raises(TypeError, match=r"give Vague\.options == "):
        await get_or_create(session, Vague, name="a", options=Vector([1]))
    assert not statements
