"""SQL criteria: they filter, and equalities give the new row its values."""

from typing import Any

import pytest
from backends import before_sql
from models import (
    Author,
    City,
    Desk,
    Place,
    Point,
    Region,
    Tag,
)
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession
from wide import Wide

from async_goc import Policy, get_or_create
from async_goc.exceptions import ContradictionError

pytestmark = pytest.mark.one_driver

unchecked = Policy(missing_constraint="ignore")


async def twice(session: AsyncSession, *args: Any, **lookup: Any) -> Any:
    """Create, then find in an empty session; return the instance."""
    made, created = await get_or_create(session, *args, policy=unchecked, **lookup)
    assert created
    await session.flush()
    session.expunge(made)
    found, created = await get_or_create(session, *args, policy=unchecked, **lookup)
    assert not created
    return found


async def test_hybrid_without_a_setter_only_filters(session: AsyncSession) -> None:
    """A hybrid without a setter filters; the defaults feed the row."""
    session.add(Place(email="A@b.c"))
    await session.flush()
    place, created = await get_or_create(session, Place, lower_email="a@b.c")
    assert (place.email, created) == ("A@b.c", False)
    place, created = await get_or_create(
        session, Place, lower_email="x@y.z", defaults={"email": "X@y.z", "x": 1}
    )
    assert (place.email, created) == ("X@y.z", True)


async def test_expression_column_only_filters(session: AsyncSession) -> None:
    """A column_property() of an SQL expression filters, and is loaded on the result."""
    place, created = await get_or_create(
        session, Place, distance=7, defaults={"x": 3, "y": 4}, policy=unchecked
    )
    assert created
    assert place.distance == 7


async def test_criteria(session: AsyncSession) -> None:
    """Equalities with an attribute feed the new row; nothing else does."""
    here = Region(country="AT", number=1)
    session.add(here)
    await session.flush()
    place = await twice(
        session,
        Place,
        ((Place.options == "dark") & Place.closed_at.is_(None)).self_group(),
        Place.x < 5,
        func.lower(Place.email).is_(None),
        Place.point == Point(1, 2),
    )
    assert (place.options, place.closed_at, place.point) == ("dark", None, Point(1, 2))
    city = await twice(session, City, City.region == here, name="Linz")
    assert (city.country, city.region_number) == ("AT", 1)


@before_sql
async def test_criteria_that_contradict(
    session: AsyncSession, statements: list[str]
) -> None:
    """A keyword and a criterion that cannot both hold are refused before any SQL."""
    with pytest.raises(ContradictionError, match=r"Tag\.name"):
        await get_or_create(session, Tag, Tag.name == "red", name="blue")
    with pytest.raises(ContradictionError, match=r"Tag\.name"):
        await get_or_create(session, Tag, Tag.name == "red", Tag.name == "blue")
    with pytest.raises(ContradictionError, match=r"Tag\.label"):
        await get_or_create(session, Tag, name="red", label="blue")
    assert not statements


async def test_criterion_with_a_parent(session: AsyncSession) -> None:
    """A comparison with an instance feeds the new row, and is covered."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    strict = Policy(missing_constraint="error")
    for expected in (True, False):
        desk, created = await get_or_create(
            session, Desk, Desk.author == ann, policy=strict
        )
        assert (desk.author_id, created) == (ann.id, expected)


@before_sql
@pytest.mark.parametrize("criterion", [Tag.name is None, True, "red", None])
async def test_criterion_that_is_none(
    session: AsyncSession, statements: list[str], criterion: Any
) -> None:
    """A comparison that Python has evaluated is refused: it would match any row."""
    kind = type(criterion).__name__
    with pytest.raises(TypeError, match=f"of type {kind}, and no SQL"):
        await get_or_create(session, Tag, criterion, name="red")
    assert not statements


async def test_boolean_column(session: AsyncSession) -> None:
    """A boolean attribute is a criterion of its own, and only filters."""
    thing = await twice(session, Wide, Wide.is_on, name="a", defaults={"is_on": True})
    assert thing.is_on


async def test_sql_value(session: AsyncSession) -> None:
    """A keyword may be an SQL expression."""
    assert (await twice(session, Tag, name=func.lower("RED"))).name == "red"
