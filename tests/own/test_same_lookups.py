"""What is looked up means the same by a creator as in a session."""

from typing import Any

import pytest
from backends import BACKENDS
from filled import Filled, Generated, Owner, Span
from models import (
    Animal,
    Author,
    Book,
    Cat,
    City,
    Desk,
    Letter,
    Pen,
    Place,
    Point,
    Region,
    Review,
    Seat,
    Setting,
    Shout,
    Tag,
    Unnamed,
)
from sqlalchemy import and_, func
from sqlalchemy.orm import joinedload, selectinload
from ways import Case, Ways, direct, each, found, tried
from wide import Wide

pytestmark = pytest.mark.heavy

ANY = {"missing_constraint": "ignore"}


def ann() -> list[Any]:
    return [Author(id=-1, name="Ann"), Author(id=-2, name="Bob")]


def regions() -> list[Any]:
    return [Region(country="AT", number=1), Region(country="AT", number=7)]


PLAIN: dict[str, Case] = {
    "one column": direct(lambda c: c.get_or_create(Tag, name="red")),
    "found": direct(
        lambda c: c.get_or_create(Tag, name="red"),
        lambda: [Tag(name="red", colour="f00", note="deferred", slug="r")],
    ),
    "two columns": direct(
        lambda c: c.get_or_create(Pen, author_id=-1, colour="red"), ann
    ),
    "more than the key": direct(
        lambda c: c.get_or_create(Tag, name="red", colour="f00", slug="r")
    ),
    "primary key": direct(
        lambda c: c.get_or_create(Tag, id=-7, defaults={"name": "red"})
    ),
    "composite key": direct(lambda c: c.get_or_create(Region, country="AT", number=-1)),
    "foreign key": direct(lambda c: c.get_or_create(Seat, author_id=-1), ann),
    "foreign key with back reference": direct(
        lambda c: c.get_or_create(Book, author_id=-1, title="one"), ann
    ),
    "other name in the table": Case(lambda c: c.get_or_create(Wide, name="a")),
    "default of its own": direct(lambda c: c.get_or_create(Unnamed, name="a")),
    "name with percent signs": direct(
        lambda c: c.get_or_create(Tag, name="%s %(name)s :x $1 ? 'a'")
    ),
    "name with others' signs": direct(
        lambda c: c.get_or_create(Tag, name='"\\{}\n\tä\u0308 \U0001f600')
    ),
    "empty name": direct(lambda c: c.get_or_create(Tag, name="")),
}

# By the name of what is looked up.
SPECIAL: dict[str, Case] = {
    "synonym": Case(lambda c: c.get_or_create(Tag, label="red")),
    "hybrid": Case(lambda c: c.get_or_create(Place, settings="dark")),
    "hybrid without a setter": Case(
        lambda c: c.get_or_create(
            Place, lower_email="a@b.c", defaults={"email": "A@b.c"}
        )
    ),
    "composite": Case(lambda c: c.get_or_create(Place, point=Point(1, 2))),
    "expression": Case(
        lambda c: c.get_or_create(
            Place, distance=7, defaults={"x": 3, "y": 4}, policy=c.having(**ANY)
        )
    ),
    "comparator": Case(lambda c: c.get_or_create(Shout, word="HI")),
    "comparator that looks": Case(
        lambda c: c.get_or_create(Shout, word="hi"), lambda: [Shout(word="HI")]
    ),
    "no parent": Case(lambda c: c.get_or_create(Review, book=None, stars=3)),
    "NULL": tried(lambda c: c.get_or_create(Tag, slug=None, defaults={"name": "red"})),
    "NULL among others": tried(lambda c: c.get_or_create(Tag, name="red", colour=None)),
    "NULL where the server fills": tried(lambda c: c.get_or_create(Unnamed, name=None)),
    "NULL where Python fills": Case(
        lambda c: c.get_or_create(Filled, name="a", scalar=None, json=None),
        lambda: [Owner(id=1)],
    ),
    "NULL in a JSON column": Case(
        lambda c: c.get_or_create(Setting, function="f", data=None)
    ),
    "nothing covers it": Case(
        lambda c: c.get_or_create(Tag, colour="red", defaults={"name": "x"})
    ),
    "nothing covers it, by criteria": Case(
        lambda c: c.get_or_create(
            Tag, Tag.colour == "red", Tag.id < 10**6, defaults={"name": "x"}
        )
    ),
    "SQL": tried(lambda c: c.get_or_create(Tag, name=func.lower("RED"))),
    "generated": Case(
        lambda c: c.get_or_create(Generated, slug="sql", defaults={"name": "SQL"}),
        lambda: [Owner(id=1)],
    ),
    "generated composite": Case(
        lambda c: c.get_or_create(Generated, span=Span(0, 1), name="SQL"),
        lambda: [Owner(id=1)],
    ),
    "single inheritance": Case(lambda c: c.get_or_create(Cat, name="Tom")),
    "row of a subclass": Case(
        lambda c: c.get_or_create(Animal, name="Kit"), lambda: [Cat(name="Kit")]
    ),
}

CRITERIA: dict[str, Case] = {
    "equality": Case(lambda c: c.get_or_create(Tag, Tag.name == "red")),
    "name of a parameter": Case(lambda c: c.get_or_create(Place, Place.options == "x")),
    "many": Case(
        lambda c: c.get_or_create(
            Place,
            ((Place.options == "dark") & Place.closed_at.is_(None)).self_group(),
            and_(Place.x < 5, func.lower(Place.email).is_(None)),
            Place.point == Point(1, 2),
        )
    ),
    "partial index": Case(
        lambda c: c.get_or_create(Place, Place.code == "x", Place.closed_at.is_(None))
    ),
    "expression index": Case(
        lambda c: c.get_or_create(
            Place, func.lower(Place.email) == "a@b", defaults={"email": "A@b"}
        )
    ),
    "boolean column": Case(
        lambda c: c.get_or_create(Wide, Wide.is_on, name="a", defaults={"is_on": True})
    ),
    "that only filters": Case(lambda c: c.get_or_create(Tag, Tag.id != -5, name="red")),
}

OTHERS: dict[str, Case] = {
    "options": Case(
        lambda c: c.get_or_create(
            Book,
            author_id=-1,
            title="one",
            options=[selectinload(Book.tags), selectinload(Book.author)],
        ),
        ann,
    ),
    "joined": Case(
        lambda c: c.get_or_create(
            Author, name="Ann", options=[joinedload(Author.books)]
        ),
        lambda: [Author(id=-1, name="Ann", books=[Book(title="a"), Book(title="b")])],
    ),
    "no options": tried(lambda c: c.get_or_create(Tag, name="red", options=[])),
    "for update": Case(
        lambda c: c.get_or_create(Tag, name="red", with_for_update=True)
    ),
    "for update, how": Case(
        lambda c: c.get_or_create(Tag, name="red", with_for_update={"read": True})
    ),
    "not for update": direct(
        lambda c: c.get_or_create(Tag, name="red", with_for_update=False)
    ),
    "policy": direct(
        lambda c: c.get_or_create(Tag, name="red", policy=c.having(namespace="a"))
    ),
    "strict policy": direct(
        lambda c: c.get_or_create(
            Tag, name="red", policy=c.having(missing_constraint="error")
        )
    ),
    "native": direct(
        lambda c: c.get_or_create(Tag, name="red", policy=c.having(strategy="native"))
    ),
    "without locks": direct(
        lambda c: c.get_or_create(Tag, name="red", policy=c.having(locks=None))
    ),
}


@each(backends=BACKENDS, plain=PLAIN)
async def test_plain(ways: Ways, case: Case) -> None:
    """Lookups by plain columns need no session."""
    await ways.compare(case)


@each(special=SPECIAL, criteria=CRITERIA, others=OTHERS)
async def test_lookups(ways: Ways, case: Case) -> None:
    """All kinds of lookup find, and create, the same rows in each lane."""
    await ways.compare(case)


async def by_parent(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    return await caller.get_or_create(Book, author=author, title="one")


async def by_criterion(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    return await caller.get_or_create(Desk, Desk.author == author)


async def one_to_one(caller: Any) -> Any:
    return await caller.get_or_create(Desk, author=await caller.load(Author, -1))


async def by_region(caller: Any) -> Any:
    region = await caller.load(Region, ("AT", 7))
    return await caller.get_or_create(City, region=region, name="Linz")


async def by_first_region(caller: Any) -> Any:
    region = await caller.load(Region, ("AT", 1))
    return await caller.get_or_create(City, first_region=region, name="Wien")


async def by_mayor(caller: Any) -> Any:
    mayor = await caller.load(Author, -1)
    return await caller.get_or_create(City, mayor=mayor, name="Graz")


async def by_default(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    return await caller.get_or_create(
        Book, author_id=-1, title="one", defaults={"author": author}
    )


async def by_lazy_default(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    return await caller.get_or_create(
        Letter, name="one", defaults=caller.function({"author": author})
    )


PARENTS = {
    call.__name__: Case(call, lambda: [*ann(), *regions()])
    for call in (
        *(by_parent, by_criterion, one_to_one, by_region, by_first_region, by_mayor),
        by_default,
    )
}
PARENTS["by_lazy_default"] = found(by_lazy_default, ann)


@each(by=PARENTS)
async def test_parents(ways: Ways, case: Case) -> None:
    """A parent may be of any session, and what the call returns refers to its own."""
    await ways.compare(case)
