"""What fails in a session fails in the same words by a creator, and leaves no row."""

from typing import Any

import pytest
from backends import BACKENDS
from models import (
    Animal,
    Author,
    Book,
    Cat,
    City,
    Employee,
    Node,
    Page,
    Person,
    Place,
    Region,
    Review,
    Tag,
    Ticket,
)
from sqlalchemy import func
from vague import Vague, Vector
from ways import Case, Ways, each, either, tried
from wide import Wide

pytestmark = pytest.mark.heavy

STRICT = {"missing_constraint": "error"}
ANY = {"missing_constraint": "ignore"}


def blue() -> list[Any]:
    return [Tag(id=-7, name="blue", slug="b")]


def books() -> list[Any]:
    return [Author(id=-1, name="Ann", books=[Book(id=-1, title="one")])]


def tag(defaults: dict[str, Any], make: Any = tried, **lookup: Any) -> Case:
    lookup = lookup or {"name": "red"}
    return make(lambda c: c.get_or_create(Tag, defaults=defaults, **lookup), blue)


def page(verb: str, rows: Any, **given: Any) -> Case:
    return Case(lambda c: getattr(c, verb)(Page, **given), rows)


BY_THE_DATABASE: dict[str, Case] = {
    "another key is taken": tag({"slug": "b"}),
    "primary key is taken": tag({"id": -7}),
    "narrower key": tag({}, colour="red", name="blue"),
    "narrower keys": tried(
        lambda c: c.get_or_create(
            Book, author_id=-1, title="one", id=-2, policy=c.having(**ANY)
        ),
        books,
    ),
    "check": tag({"colour": "bad"}),
    "check, by SQL": tag({"colour": func.lower("BAD")}),
    "not null": tried(lambda c: c.get_or_create(Book, author_id=-1, id=-9), books),
    "not null, given": tried(
        lambda c: c.get_or_create(Book, author_id=None, title="x")
    ),
    "foreign key": tried(lambda c: c.get_or_create(Book, author_id=-404, title="x")),
    "missing value": tried(lambda c: c.get_or_create(Tag, slug="r")),
    "too long": either(lambda c: c.get_or_create(Wide, name="a" * 99)),
    "too long a value": either(
        lambda c: c.get_or_create(Region, country="AAA", number=-1)
    ),
    "wrong type": either(lambda c: c.get_or_create(Tag, name=5)),
    "wrong type of a default": tag(make=either, defaults={"made_at": "yesterday"}),
    "wrong type of a list": tag(make=either, defaults={"colour": ["a"]}),
    "another class of the family": Case(
        lambda c: c.get_or_create(Cat, name="Tom"), lambda: [Animal(name="Tom")]
    ),
    "parent of the family": Case(
        lambda c: c.get_or_create(Employee, name="Ann", defaults={"badge": 1}),
        lambda: [Person(name="Ann")],
    ),
    "several rows": Case(
        lambda c: c.get_or_create(Review, stars=1, policy=c.having(**ANY)),
        lambda: [Review(stars=1), Review(stars=1)],
    ),
    "what the model changes": Case(
        lambda c: c.get_or_create(Node, name="Taken"), lambda: [Node(name="taken")]
    ),
    "update": page(
        "update_or_create",
        lambda: [Page(name="a"), Page(name="b", slug="s")],
        name="a",
        defaults={"slug": "s"},
    ),
    "row of many": Case(
        lambda c: c.many(
            Tag, [{"name": "a"}, {"name": "c", "colour": "bad"}], key="name"
        ),
        blue,
    ),
    "update of many": Case(
        lambda c: c.update_many(
            Tag, [{"name": "a"}, {"name": "blue", "colour": "bad"}], key="name"
        ),
        blue,
    ),
}


async def elsewhere(caller: Any) -> Any:
    await caller.get_or_create(Book, author=7, title="x")


def fail(**_: Any) -> Any:
    raise LookupError


def refused(*criteria: Any, make: Any = Case, model: Any = Tag, **call: Any) -> Case:
    return make(lambda c: c.get_or_create(model, *criteria, **call), blue)


BEFORE_SQL: dict[str, Case] = {
    "no lookup": refused(defaults={"name": "red"}),
    "unknown names": refused(nmae="x", make=tried, defaults={"colr": 1, "slug": 1}),
    "unknown default": refused(name="red", make=tried, defaults={"nmae": 1}),
    "unknown default of a hit": refused(name="blue", make=tried, defaults={"nmae": 1}),
    "attribute of another": refused(name="x", make=tried, defaults={Author.name: "a"}),
    "read-only": refused(id=1, model=Place, defaults={"area": 1, "ara": 2}),
    "column's name": refused(opts="x", model=Place),
    "constructor's name": refused(code="c", model=Ticket, defaults={"pirce": 2}),
    "collection": refused(books=1, model=Author),
    "no foreign key": refused(desk=1, model=Author),
    "proxy": refused(titles=1, model=Author),
    "view": refused(seen_region=1, model=City),
    "contradiction": refused(name="red", make=tried, defaults={"name": "blue"}),
    "contradiction of a hit": refused(
        name="blue", make=tried, defaults={"name": "red"}
    ),
    "contradiction of types": refused(name="1", make=tried, defaults={"name": 1}),
    "contradiction by SQL": refused(
        name="red", make=tried, defaults={"name": func.lower("RED")}
    ),
    "contradiction by None": refused(name="red", make=tried, defaults={"name": None}),
    "contradiction of criteria": refused(Tag.name == "a", name="b"),
    "contradiction of synonyms": refused(name="red", label="blue"),
    "mapping": refused({"colour": "secret"}, name="red"),
    "truth": refused(*[True], name="red"),
    "text": refused("name", name="red"),
    "no defaults": refused(name="red", make=tried, defaults=7),
    "no names": refused(name="red", make=tried, defaults={7: 1}),
    "no factory": refused(name="red", factory=7),
    "no options": refused(name="red", options="x"),
    "option of no kind": refused(name="red", options=[1]),
    "array for options": refused(model=Vague, name="a", options=Vector([1])),
    "skipped locks": refused(name="red", with_for_update={"skip_locked": True}),
    "no policy": refused(name="red", policy="x"),
    "strict": Case(
        lambda c: c.get_or_create(Review, stars=1, policy=c.having(**STRICT))
    ),
    "strict with NULL": tried(
        lambda c: c.get_or_create(
            Tag, slug=None, policy=c.having(**STRICT), defaults={"name": "x"}
        )
    ),
    "update": Case(
        lambda c: c.update_or_create(
            Tag, x=1, defaults={"y": 1}, create_defaults={"z": 1}
        )
    ),
    "row without the key": Case(
        lambda c: c.many(Tag, [{"name": "a"}, {"slug": "s"}], key="name")
    ),
    "no row": Case(lambda c: c.many(Tag, [{"name": "a"}, 5])),
    "text for rows": Case(lambda c: c.many(Tag, "ab", key="name")),
    "mapping for rows": Case(lambda c: c.many(Tag, {"name": "a"}, key="name")),
    "number for rows": Case(lambda c: c.many(Tag, 5, key="name")),
    "keys in question": Case(lambda c: c.many(Tag, [{"name": "a", "slug": "s"}])),
    "size of chunks": Case(lambda c: c.many(Tag, ["a"], key="name", chunk_size=0)),
    "update of the key": Case(
        lambda c: c.update_many(Tag, [{"name": "a"}], update=["name"])
    ),
    "another class": Case(elsewhere),
    "no model": refused(model=int, name="x"),
}
BY_THE_CALLER: dict[str, Case] = {
    "lazy defaults": tag(fail),
    "default": tag({"colour": fail}),
    "lazy default": tag(lambda: {"colour": fail}),
    "second default": Case(
        lambda c: c.get_or_create(
            Tag, name="x", defaults={"colour": c.function(1), "slug": fail}
        )
    ),
    "factory": Case(lambda c: c.get_or_create(Tag, name="x", factory=fail)),
    "result of a factory": Case(
        lambda c: c.get_or_create(Tag, name="x", factory=c.function(7))
    ),
    "no lazy mapping": tag(lambda: 7),
    "unknown lazy name": tag(lambda: {"nmae": 1}),
    "contradiction": tag({"name": lambda: "blue"}),
    "lazy contradiction": tag(lambda: {"name": "blue"}),
    "lazy contradiction that no row hides": tag(lambda: {"name": "green"}),
    "constructor": Case(lambda c: c.get_or_create(Ticket, code="a", price="x")),
    "validator": Case(lambda c: c.get_or_create(Node, id=-1, defaults={"name": 5})),
    "rows": Case(lambda c: c.many(Tag, (fail() for _ in "ab"), key="name")),
    "default of many": Case(
        lambda c: c.many(Tag, ["a"], key="name", defaults={"slug": fail})
    ),
    "progress": Case(lambda c: c.many(Tag, ["a"], key="name", progress=fail)),
}


@each(before=BEFORE_SQL, caller=BY_THE_CALLER)
async def test_arguments(ways: Ways, case: Case) -> None:
    """What is wrong with the arguments, or what they raise, is told alike.

    Fails without `are_apart` in `Kind._make`: a hit takes any defaults.
    """
    seen = await ways.compare(case)
    assert seen.errors


@each(backends=BACKENDS, database=BY_THE_DATABASE)
async def test_refused_by_the_database(ways: Ways, case: Case) -> None:
    """The class, the message, the notes, the cause and the data are the same."""
    seen = await ways.compare(case)
    # The other drivers take values of any type.
    assert seen.errors or ways.engine.dialect.driver != "asyncpg"
