"""What can be looked up, and how it becomes SQL."""

from typing import Any

import pytest
from backends import Sessions, before_sql
from models import (
    Author,
    Book,
    City,
    Desk,
    Place,
    Point,
    Region,
    Review,
    Shout,
    Tag,
)
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import Policy, get_or_create
from async_goc._models.fields import lookup_fields
from async_goc.exceptions import UnknownFieldError

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


async def test_synonym(session: AsyncSession) -> None:
    """A synonym is looked up and set like the attribute it stands for."""
    assert (await twice(session, Tag, label="red")).name == "red"


async def test_none_means_is_null(session: AsyncSession) -> None:
    """None never drops a condition."""
    session.add(Place(code="x", email="a"))
    await session.flush()
    place, created = await get_or_create(
        session, Place, settings="x", email=None, policy=unchecked, defaults={"x": 1}
    )
    assert created
    assert place.email is None


async def test_hybrid_with_a_setter(session: AsyncSession) -> None:
    """A hybrid with a setter filters by its expression and feeds the new row."""
    assert (await twice(session, Place, settings="dark")).options == "dark"


async def test_composite(session: AsyncSession) -> None:
    """A composite is looked up by all of its columns."""
    place = await twice(session, Place, point=Point(1, 2))
    assert (place.x, place.y, place.point) == (1, 2, Point(1, 2))


async def test_many_to_one(session: AsyncSession, statements: list[str]) -> None:
    """An instance is looked up by its key; a pending one is flushed first."""
    with session.no_autoflush:
        ann = Author(name="Ann")
        session.add(ann)
        book = await twice(session, Book, author=ann, title="one")
    assert book.author is ann
    assert book.author_id == ann.id
    statements.clear()
    ann_id = ann.id
    session.expire(ann)
    _, created = await get_or_create(session, Book, author=ann, title="one")
    assert not created
    assert statements == ["SELECT"]  # an expired parent is not read for its key
    assert ann_id == book.author_id


async def test_many_to_one_none(session: AsyncSession) -> None:
    """None for a relationship means that the foreign key is NULL."""
    review = await twice(session, Review, book=None, stars=3)
    assert review.book_id is None


async def test_composite_foreign_key(session: AsyncSession) -> None:
    """Each column of the key gets its own part of the parent's key."""
    here = Region(country="AT", number=7)
    session.add_all([here, Region(country="AT", number=1)])
    city = await twice(session, City, region=here, name="Linz")
    assert (city.country, city.region_number) == ("AT", 7)
    city = await twice(session, City, region=None, name="Atlantis")
    assert city.country is None


async def test_join_with_a_condition(session: AsyncSession) -> None:
    """A relationship whose join says more than its key is left to SQLAlchemy."""
    here, mayor = Region(country="AT", number=1), Author(name="Ann")
    session.add_all([here, mayor])
    await session.flush()
    fields = lookup_fields(City, ["first_region", "mayor"])
    assert not any(field.is_plain for field in fields)
    assert (await twice(session, City, mayor=mayor, name="Graz")).mayor_name == "Ann"
    city = await twice(session, City, first_region=here, name="Wien")
    assert city.country == "AT"


async def test_parent_elsewhere(sessions: Sessions) -> None:
    """A parent that is not in the session cannot be looked up by; nor another class."""
    async with sessions() as session, sessions() as other:
        ann = Author(name="Ann")
        for _ in range(2):
            with pytest.raises(ValueError, match="not in this session"):
                await get_or_create(session, Book, author=ann, title="x")
            other.add(ann)
        with pytest.raises(TypeError, match="takes a Author"):
            await get_or_create(session, Book, author=7, title="x")


@before_sql
@pytest.mark.parametrize(
    ("model", "name", "why"),
    [
        (Author, "books", "is a collection"),
        (Author, "desk", "is no foreign key"),
        (Author, "titles", "is no column"),
        (City, "seen_region", "is no foreign key"),
    ],
)
async def test_what_cannot_identify(
    session: AsyncSession, statements: list[str], model: type[Any], name: str, why: str
) -> None:
    """Collections and their like are refused before any SQL."""
    with pytest.raises(ValueError, match=f"{model.__name__}.{name} {why}"):
        await get_or_create(session, model, **{name: 1})
    assert not statements


@before_sql
@pytest.mark.parametrize(
    ("name", "hint"),
    [("nmae", "'name'"), ("zzz", "mapped attribute"), ("opts", "'options'")],
)
async def test_unknown_field(
    session: AsyncSession, statements: list[str], name: str, hint: str
) -> None:
    """A misspelt name is named, with what may be meant; a column's, too."""
    model: type[Any] = Place if name == "opts" else Tag
    with pytest.raises(UnknownFieldError, match=hint) as raised:
        await get_or_create(session, model, **{name: "red"})
    assert raised.value.fields == (name,)
    assert not statements


async def test_comparator_of_ones_own(session: AsyncSession) -> None:
    """A comparator that looks at the value gets the value."""
    session.add(Shout(word="HI"))
    _, created = await get_or_create(session, Shout, word="hi", policy=unchecked)
    assert not created


async def test_one_to_one(session: AsyncSession) -> None:
    """The side that holds the foreign key can be looked up by."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    assert ann.desk is None
    desk, _ = await get_or_create(session, Desk, author=ann)
    assert ann.desk is desk
    assert (await session.scalars(select(Desk.author_id))).one() == ann.id
