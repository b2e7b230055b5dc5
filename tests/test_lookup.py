"""What can be looked up, and how it becomes SQL."""

import gc
import weakref
from typing import Any

import pytest
from conftest import Sessions, on_postgres
from models import (
    Animal,
    Author,
    Book,
    Cat,
    City,
    Desk,
    Employee,
    Person,
    Place,
    Point,
    Region,
    Review,
    Shout,
    Tag,
)
from sqlalchemy import ForeignKey, event, func, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    joinedload,
    mapped_column,
    registry,
    relationship,
    selectinload,
)
from sqlalchemy.sql.selectable import ForUpdateArg

from async_goc import Policy, get_or_create
from async_goc._lookup.plan import plan_for
from async_goc._models.fields import lookup_field
from async_goc.exceptions import ContradictionError, UnknownFieldError

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
    assert not lookup_field(City, "first_region").is_plain
    assert not lookup_field(City, "mayor").is_plain
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
    assert raised.value.field == name
    assert not statements


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


async def test_criterion_that_is_none(session: AsyncSession) -> None:
    """A comparison that Python has evaluated is refused: it would match any row."""
    with pytest.raises(TypeError, match="criterion False is no SQL expression"):
        await get_or_create(session, Tag, Tag.name is None)


async def test_sql_value(session: AsyncSession) -> None:
    """A keyword may be an SQL expression."""
    assert (await twice(session, Tag, name=func.lower("RED"))).name == "red"


async def test_options(sessions: Sessions) -> None:
    """Loader options are honoured on the created object and on the found one."""
    load = [selectinload(Book.tags), selectinload(Book.author)]
    async with sessions.begin() as session:
        author_id = (await get_or_create(session, Author, name="Ann"))[0].id
    for expected in (True, False):
        async with sessions.begin() as session:
            book, created = await get_or_create(
                session, Book, author_id=author_id, title="one", options=load
            )
            assert created is expected
            assert book.tags == []
            assert book.author.name == "Ann"


@on_postgres
async def test_for_update(sessions: Sessions, engine: AsyncEngine) -> None:
    """The row is locked, and read anew; nothing pending is lost."""
    async with sessions.begin() as session:
        session.add(Tag(name="red"))
    async with sessions() as session:
        tag, _ = await get_or_create(session, Tag, name="red")
        async with engine.begin() as rival:
            await rival.execute(Tag.__table__.update().values(colour="new"))
        with session.no_autoflush:
            tag.slug = "mine"
            for how in (True, {"nowait": True}, ForUpdateArg(read=True)):
                same, created = await get_or_create(
                    session, Tag, name="red", with_for_update=how
                )
                assert (same is tag, created) == (True, False)
        assert (tag.colour, tag.slug) == ("new", "mine")
        async with sessions() as other:
            with pytest.raises(DBAPIError) as raised:
                await get_or_create(
                    other, Tag, name="red", with_for_update={"nowait": True}
                )
            assert getattr(raised.value.orig, "sqlstate", None) == "55P03"
        with pytest.raises(ValueError, match="skip_locked"):
            await get_or_create(
                session, Tag, name="red", with_for_update={"skip_locked": True}
            )


async def test_same_statement_each_time(session: AsyncSession) -> None:
    """The SQL text does not depend on the values, and is built once."""
    texts: set[str] = set()

    @event.listens_for(session.bind.sync_engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            texts.add(statement)

    for name in ("red", "green", "blue"):
        await get_or_create(session, Tag, name=name)
    assert len(texts) == 1
    assert plan_for(Tag, {"name": "x"}) is plan_for(Tag, {"name": "y"})
    assert plan_for(Tag, {"name": "x"}) is not plan_for(Tag, {"name": None})


def test_plans_go_with_their_model() -> None:
    """A model made at run time, and its plans, can be collected."""

    def make() -> weakref.ref[type[Any]]:
        class Temporary:
            pass

        mapping = registry()
        mapping.map_imperatively(
            Temporary, Tag.__table__.to_metadata(mapping.metadata, name="temporary")
        )
        plan_for(Temporary, {"name": "x"})
        mapping.dispose()
        return weakref.ref(Temporary)

    model = make()
    gc.collect()
    assert model() is None


async def test_comparator_of_ones_own(session: AsyncSession) -> None:
    """A comparator that looks at the value gets the value."""
    session.add(Shout(word="HI"))
    _, created = await get_or_create(session, Shout, word="hi", policy=unchecked)
    assert not created


async def test_joined_inheritance(session: AsyncSession) -> None:
    """The parent's unique constraint covers the subclass, whose columns are loaded."""
    _, created = await get_or_create(
        session, Employee, name="Ann", defaults={"badge": 7}
    )
    assert created
    await session.commit()
    session.expunge_all()
    person, created = await get_or_create(session, Person, name="Ann")
    assert isinstance(person, Employee)
    assert (person.badge, created) == (7, False)


async def test_single_table_inheritance(session: AsyncSession) -> None:
    """A row of another subclass holds the key, and is no lost race."""
    session.add(Animal(name="Tom"))
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Cat, name="Tom")
    assert raised.value.__notes__
    session.add(Cat(name="Kit", lives=3))
    await session.flush()
    session.expunge_all()
    for _ in range(2):
        cat, created = await get_or_create(session, Animal, name="Kit")
        assert isinstance(cat, Cat)
        assert (cat.lives, created) == (3, False)


async def test_one_to_one(session: AsyncSession) -> None:
    """The side that holds the foreign key can be looked up by."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    assert ann.desk is None
    desk, _ = await get_or_create(session, Desk, author=ann)
    assert ann.desk is desk
    assert (await session.scalars(select(Desk.author_id))).one() == ann.id


class Library(DeclarativeBase):
    """Authors and books, always loaded together."""


class Writer(Library):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Work"]] = relationship(lazy="joined")


class Work(Library):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str]


@pytest.mark.parametrize("by", ["the model", "an option", "a listener"])
async def test_joined_eager_loading(session: AsyncSession, by: str) -> None:
    """A join repeats the row for each member; it is one row all the same."""
    session.add(Author(name="Ann", books=[Book(title="one"), Book(title="two")]))
    await session.flush()
    session.expunge_all()
    model: type[Any] = Writer if by == "the model" else Author
    joined = joinedload(Author.books)

    @event.listens_for(session.sync_session, "do_orm_execute")
    def _join(state: ORMExecuteState) -> None:
        state.statement = state.statement.options(joined)

    if by != "a listener":
        event.remove(session.sync_session, "do_orm_execute", _join)
    options = [joined] if by == "an option" else []
    ann, created = await get_or_create(
        session, model, name="Ann", options=options, policy=unchecked
    )
    assert not created
    assert {book.title for book in ann.books} == {"one", "two"}
