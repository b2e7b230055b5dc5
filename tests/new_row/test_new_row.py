"""How the instance is made: constructors, dataclasses and factories."""

from typing import Any

import pytest
from backends import Sessions
from models import Author, Badge, Book, Pen, Place, Setting, Tag, Ticket
from sqlalchemy import MetaData, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import class_mapper, registry

from async_goc import Policy, get_or_create
from async_goc._new_row import construct
from async_goc.exceptions import UnknownFieldError

pytestmark = pytest.mark.one_driver

quiet = Policy(missing_constraint="ignore")


async def test_collections_that_a_factory_changes_come_back(
    session: AsyncSession,
) -> None:
    """Collections that a failing factory changes, replaces or deletes come back."""
    eve = Author(name="Eve", books=[Book(title="b")])
    ann = Author(name="Ann", books=[Book(title="a"), Book(title="c")])
    session.add_all([ann, eve])
    await session.flush()
    before, hers, his = ann.books, list(ann.books), list(eve.books)

    def fail(**_: Any) -> Tag:
        before.append(Book(title="d"))
        ann.books = [*hers, Book(title="e")]
        del eve.books
        return Tag(name=None)  # NOT NULL

    with pytest.raises(IntegrityError):
        await get_or_create(session, Tag, name="red", factory=fail)
    assert (ann.books, eve.books) == (hers, his)
    assert (ann.name, eve.name) == ("Ann", "Eve")


async def test_what_a_factory_adds_is_undone_with_it(sessions: Sessions) -> None:
    """A factory that raises leaves no row, not even its own, and a usable session."""
    async with sessions.begin() as session:
        ann = Author(name="Ann")
        session.add(ann)
        await session.flush()

        async def fail(**values: Any) -> Tag:
            extra, guest = Tag(name="extra"), Author(name="guest", books=[])
            session.add_all([extra, guest])
            for _ in range(2):
                ann.book_count += 1
                await session.flush()
                extra.colour = "f00"
                guest.book_count = 1
            ann.book_count += 1
            raise LookupError(values)

        with pytest.raises(LookupError, match="red"):
            await get_or_create(session, Tag, name="red", factory=fail)
        assert (ann.name, ann.book_count) == ("Ann", 0)
        assert not session.new
        await get_or_create(session, Tag, name="blue")
    async with sessions() as session:
        assert list(await session.scalars(select(Tag.name))) == ["blue"]
        assert (await session.scalars(select(Author.book_count))).one() == 0


async def test_properties_and_plain_attributes(session: AsyncSession) -> None:
    """Properties and hybrids with a setter, and class attributes, may be given."""
    place, _ = await get_or_create(
        session,
        Place,
        settings="x",
        defaults={"where": "3/4", "colour": "blue", "options": "x"},
    )
    assert (place.x, place.y, place.colour, place.options) == (3, 4, "blue", "x")


async def test_association_proxy(session: AsyncSession) -> None:
    """An association proxy may be given, if what it makes can be made."""
    ann, _ = await get_or_create(session, Author, name="Ann", defaults={"titles": []})
    assert list(ann.titles) == []


async def test_constructor_of_ones_own(session: AsyncSession) -> None:
    """Names that only the constructor knows are legal; it need not know the others."""
    ticket, _ = await get_or_create(
        session, Ticket, code="a", defaults={"price": 2, "count": 3}
    )
    assert ticket.total == 6
    ticket, _ = await get_or_create(session, Ticket, code="b", defaults={"id": 99})
    assert ticket.id == 99
    with pytest.raises(UnknownFieldError):
        await get_or_create(session, Ticket, code="c", defaults={"pirce": 2})


async def test_dataclass(session: AsyncSession) -> None:
    """Fields that a dataclass's constructor does not take are set afterwards."""
    badge, _ = await get_or_create(session, Badge, code="a", defaults={"level": 7})
    assert (badge.code, badge.level) == ("a", 7)


async def test_factory(session: AsyncSession) -> None:
    """A classmethod fits; names that it takes as **values are legal."""
    ticket, created = await get_or_create(
        session, Ticket, code="a", factory=Ticket.free, defaults={"whatever": 1}
    )
    assert (ticket.total, created) == (0, True)

    def narrow(code: str) -> Ticket:
        return Ticket(code)

    with pytest.raises(UnknownFieldError, match="whatever"):
        await get_or_create(
            session, Ticket, code="b", factory=narrow, defaults={"whatever": 1}
        )


async def test_null_in_a_json_column(session: AsyncSession) -> None:
    """None is looked up as NULL, and stored as NULL: the second call finds it."""
    for expected in (True, False):
        _, created = await get_or_create(
            session, Setting, function="f", data=None, policy=quiet
        )
        assert created is expected


async def test_column_named_like_an_argument(session: AsyncSession) -> None:
    """A factory may take a value by any name."""

    def factory(function: str) -> Setting:
        return Setting(function=function)

    setting, _ = await get_or_create(
        session, Setting, function="f", factory=factory, policy=quiet
    )
    assert setting.function == "f"


def test_class_without_a_constructor() -> None:
    """A class that SQLAlchemy gives no constructor is filled attribute by attribute."""

    class Bare:
        pass

    mapping = registry(constructor=None)
    mapping.map_imperatively(Bare, Tag.__table__.to_metadata(MetaData()))
    bare: Any = construct(class_mapper(Bare), {"name": "red"})
    assert bare.name == "red"


async def test_factory_that_returns_what_was_there(session: AsyncSession) -> None:
    """A factory must not return a row that was there before."""
    tag, _ = await get_or_create(session, Tag, name="red")
    with pytest.raises(TypeError, match="not new"):
        await get_or_create(session, Tag, name="blue", factory=lambda **_: tag)

    async def flush_first(**_: Any) -> Tag:
        session.add(Author(name="Ann"))
        await session.flush()
        return tag

    with pytest.raises(TypeError, match="not new"):
        await get_or_create(session, Tag, name="blue", factory=flush_first)


async def test_keyed_collection_of_the_parent(session: AsyncSession) -> None:
    """The key is set before the parent, whatever the order of the lookup."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    pen, _ = await get_or_create(session, Pen, author=ann, colour="red")
    assert ann.pens == {"red": pen}


async def test_wrong_results(session: AsyncSession) -> None:
    """A factory or a lazy mapping that returns something else is named."""
    with pytest.raises(TypeError, match="factory returned a value of type int"):
        await get_or_create(session, Tag, name="x", factory=lambda **_: 7)
    with pytest.raises(TypeError, match="defaults is of type int"):
        await get_or_create(session, Tag, name="x", defaults=lambda: 7)
    _, created = await get_or_create(session, Tag, name="x")
    assert created
