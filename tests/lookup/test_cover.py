"""Which unique constraint covers a lookup."""

from typing import Any

import pytest
from models import Employee, Place, Point, Review, Tag
from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import class_mapper, registry

from async_goc import Policy, get_or_create, update_or_create
from async_goc._models.constraints import is_covered
from async_goc.exceptions import MissingConstraintError, MissingConstraintWarning

pytestmark = pytest.mark.one_driver

strict = Policy(missing_constraint="error")
PG, LITE = postgresql.dialect(), sqlite.dialect()


def mapped(*items: Any) -> type[Any]:
    """A class with columns id, a, b, e and a table with *items*."""

    class Thing:
        pass

    mapping = registry(metadata=MetaData())
    columns = (Column(name, String) for name in "abe")
    key = Column("id", Integer, primary_key=True)
    mapping.map_imperatively(
        Thing, Table("thing", mapping.metadata, key, *columns, *items)
    )
    return Thing


def covers(model: Any, dialect: Any, *conditions: Any) -> bool:
    return is_covered(class_mapper(model), conditions, dialect)


def test_constraints_and_indexes() -> None:
    """Primary keys, unique constraints and unique indexes count; others do not."""
    thing = mapped(UniqueConstraint("a", "b"), Index("i", "e", unique=True))
    assert covers(thing, None, thing.id == 1)
    assert covers(thing, None, thing.a == "x", thing.b == "y")
    assert covers(thing, None, thing.e == "x")
    assert covers(thing, None, thing.e == "x", thing.a == "y")
    assert not covers(thing, None, thing.a == "x")
    assert not covers(thing, None, thing.e != "x")
    plain = mapped(Index("i", "e"))
    assert not covers(plain, PG, plain.e == "x")


def test_deferrable_does_not_count() -> None:
    """A constraint that is checked at COMMIT arbitrates nothing."""
    thing = mapped(UniqueConstraint("a", deferrable=True, initially="DEFERRED"))
    assert not covers(thing, PG, thing.a == "x")


def test_null() -> None:
    """NULLs never conflict, unless the constraint says so."""
    thing = mapped(UniqueConstraint("a"))
    assert not covers(thing, PG, thing.a.is_(None))
    thing = mapped(UniqueConstraint("a", postgresql_nulls_not_distinct=True))
    assert covers(thing, PG, thing.a.is_(None))
    assert not covers(thing, LITE, thing.a.is_(None))


def test_partial_index() -> None:
    """A partial index counts where the lookup says what its WHERE says."""
    thing = mapped(
        Index(
            "i",
            "a",
            unique=True,
            postgresql_where=text("b IS NULL AND e = 'x'"),
        )
    )
    by_text = (thing.a == "x", text("b IS NULL AND e = 'x'"))
    assert covers(thing, PG, *by_text)
    thing = mapped()
    where = (thing.b.is_(None)) & (thing.e == "x")
    Index("i", thing.a, unique=True, postgresql_where=where)
    same = (thing.a == "x", thing.b.is_(None), thing.e == "x")
    assert covers(thing, PG, *same)
    assert covers(thing, PG, *same, thing.id > 1)
    assert not covers(thing, PG, thing.a == "x", thing.b.is_(None))
    assert not covers(thing, PG, *same[:2], thing.e == "y")
    assert covers(thing, LITE, thing.a == "x")  # there, it has no WHERE
    assert not covers(thing, None, *same)


def test_expression_index() -> None:
    """An expression index counts where a criterion compares the same expression."""
    thing = mapped()
    Index("i", func.lower(thing.e), thing.a, unique=True)
    lower = func.lower(thing.e) == "x"
    assert covers(thing, PG, lower, thing.a == "y")
    assert not covers(thing, PG, lower)
    assert not covers(thing, PG, func.upper(thing.e) == "x", thing.a == "y")
    assert not covers(thing, PG, func.lower(thing.e).is_(None), thing.a == "y")


def test_condition_without_a_literal_form() -> None:
    """A value that SQL text cannot express matches no index condition."""
    thing = mapped()
    Index("i", thing.a, unique=True, postgresql_where=thing.e == "x")
    assert not covers(thing, PG, thing.a == "x", thing.e == object())


def test_joined_inheritance() -> None:
    """The keys of all tables count, under any of their columns."""
    assert covers(Employee, None, Employee.name == "Ann")
    assert covers(Employee, None, Employee.badge == 1)
    assert covers(Employee, None, Employee.id == 1)


def test_table_without_a_key() -> None:
    """A mapper may have a key that the database does not enforce."""

    class View:
        pass

    mapping = registry(metadata=MetaData())
    table = Table("view", mapping.metadata, Column("id", Integer, ForeignKey("x.id")))
    mapping.map_imperatively(View, table, primary_key=[table.c.id])
    assert not covers(View, PG, table.c.id == 1)


def test_joined_model() -> None:
    """A class that is mapped to a query has no constraints of its own."""

    class Report:
        pass

    query = select(Tag.id, Tag.name).subquery()
    registry().map_imperatively(Report, query, primary_key=[query.c.id])
    assert not covers(Report, PG, query.c.id == 1)


@pytest.fixture
def _forgotten() -> None:
    """Nothing has been warned about yet."""
    for model in (Review, Tag):
        vars(class_mapper(model)).pop("_async_goc", None)


@pytest.mark.usefixtures("_forgotten")
async def test_warns_once(session: AsyncSession) -> None:
    """A lookup that nothing covers warns once per model and lookup, at the call."""
    with pytest.warns(MissingConstraintWarning, match="by stars, so") as caught:
        await get_or_create(session, Review, stars=1)
    await get_or_create(session, Review, stars=2)
    assert [w.filename for w in caught] == [__file__]
    with pytest.warns(MissingConstraintWarning, match="by stars, book"):
        await get_or_create(session, Review, stars=3, book=None)
    with pytest.warns(MissingConstraintWarning, match="review.stars = :stars_1"):
        await get_or_create(session, Review, Review.stars == 9)


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_warns_on_a_hit(session: AsyncSession, verb: Any) -> None:
    """Where the row is there, as it often is in development, the first hit warns.

    Fails without `warn_on_hit` in `find_or_create`.
    """
    session.add(Review(stars=1))
    quiet = Policy(missing_constraint="ignore")
    await verb(session, Review, stars=1, policy=quiet)
    with pytest.warns(MissingConstraintWarning, match="by stars, so") as caught:
        await verb(session, Review, stars=1)
    assert [w.filename for w in caught] == [__file__]
    with pytest.warns(MissingConstraintWarning, match="review.stars = :stars_1"):
        await verb(session, Review, Review.stars == 1)
    for _ in range(2):
        await verb(session, Review, stars=1)
        await verb(session, Review, Review.stars == 1)
        await verb(session, Review, Review.stars < 2)
    with pytest.warns(MissingConstraintWarning, match="by stars, book"):
        await verb(session, Review, stars=2, book=None)
    await verb(session, Review, stars=2, book=None)


@pytest.mark.usefixtures("_forgotten")
async def test_null_in_the_lookup_warns(session: AsyncSession) -> None:
    """A unique column does not help a lookup by NULL."""
    with pytest.warns(MissingConstraintWarning, match="NULLs never conflict"):
        await get_or_create(session, Tag, slug=None, defaults={"name": "red"})
    await get_or_create(session, Tag, slug="x", defaults={"name": "blue"})


async def test_error_and_ignore(session: AsyncSession, statements: list[str]) -> None:
    """The policy may ask for an error, before any SQL, or for silence."""
    with pytest.raises(MissingConstraintError, match="Review") as raised:
        await get_or_create(session, Review, stars=1, policy=strict)
    assert raised.value.lookup == ("stars",)
    assert not statements
    quiet = Policy(missing_constraint="ignore")
    await get_or_create(session, Review, stars=1, policy=quiet)


@pytest.mark.parametrize(
    ("criteria", "lookup", "defaults"),
    [
        ((), {"id": 7}, {}),
        ((), {"point": Point(1, 1)}, {}),
        ((Place.options == "x",), {}, {}),
        ((Place.code == "x", Place.closed_at.is_(None)), {}, {}),
        ((), {"code": "x", "closed_at": None}, {}),
        ((func.lower(Place.email) == "a@b.c",), {}, {"email": "A@b.c"}),
        ((), {"lower_email": "a@b.c"}, {"email": "A@b.c"}),
    ],
    ids=[
        *("key", "composite", "criterion", "partial index by criteria"),
        *("partial index", "expression index", "expression index by hybrid"),
    ],
)
async def test_covered(
    session: AsyncSession, criteria: Any, lookup: Any, defaults: Any
) -> None:
    """What a constraint covers, in whatever form, passes the strictest policy."""
    for expected in (True, False):
        _, created = await get_or_create(
            session, Place, *criteria, defaults=defaults, policy=strict, **lookup
        )
        assert created is expected
