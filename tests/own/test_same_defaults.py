"""What a new row gets from a creator is what it gets in a session."""

from datetime import datetime
from typing import Any

import pytest
from backends import BACKENDS
from filled import Filled, FilledData, Owner, Span
from models import (
    Author,
    Badge,
    Book,
    Cat,
    Letter,
    Node,
    Pen,
    Place,
    Point,
    Setting,
    Tag,
    Ticket,
)
from odd import Clause, Odd
from sqlalchemy import func, null
from ways import Case, Ways, direct, each, either, found, tried
from wide import Copied, Listed

pytestmark = pytest.mark.heavy


def owner() -> list[Any]:
    return [Owner(id=1)]


def tag(defaults: Any, make: Any = direct) -> Case:
    """A tag with defaults; they may be made of the caller."""

    def call(caller: Any) -> Any:
        given = defaults(caller) if callable(defaults) else defaults
        return caller.get_or_create(Tag, name="red", defaults=given)

    return make(call)


FORMS: dict[str, Case] = {
    "none": tag(None),
    "empty": tag({}),
    "values": tag({"colour": "green", "slug": "s"}),
    "attributes": tag({Tag.colour: "green"}, tried),
    "function": tag(lambda c: {"colour": c.function("green")}),
    "functions": tag(
        lambda c: {"colour": c.function("green", "a"), "slug": c.coroutine("s", "b")}
    ),
    "lazy": tag(lambda c: c.function({"colour": "green"})),
    "lazy coroutine": tag(lambda c: c.coroutine({"colour": "green"})),
    "lazy function": tag(
        lambda c: c.coroutine({"colour": c.coroutine("green", "value")}, "mapping")
    ),
    "function of a function": tag(lambda c: {"colour": c.function(len)}, Case),
    "lazy nothing": tag(lambda c: c.function({})),
    "SQL": tag({"colour": func.lower("GREEN")}, found),
    "SQL by function": tag(lambda c: {"colour": c.function(func.lower("G"))}, found),
    "NULL": tag({"colour": null()}, found),
    "what the ORM takes for SQL": tag({"colour": Clause()}, found),
    "None": tag({"colour": None, "slug": None}),
    "None by function": tag(lambda c: {"colour": c.function(None)}),
    "None for what the server makes": tag({"made_at": None}),
    "given for what the server makes": tag({"made_at": datetime(2020, 1, 1)}),  # noqa: DTZ001
    "deferred": tag({"note": "n"}, found),
    "primary key": tag({"id": -5}),
    "what the lookup says": tag({"name": "red"}, tried),
    "what it says by another name": tag({"label": "red"}, tried),
    "what it says by a function": tag(lambda c: {"name": c.function("red")}, tried),
    "another key": tag({"name": "blue"}, tried),
    "another key by a function": tag(lambda c: {"name": c.function("blue")}, tried),
}


def placed(**defaults: Any) -> Case:
    return Case(lambda c: c.get_or_create(Place, options="x", defaults=defaults))


def booked(make: Any = Case, **defaults: Any) -> Case:
    def call(caller: Any) -> Any:
        return caller.get_or_create(Book, author_id=-1, title="a", defaults=defaults)

    return make(call, lambda: [Author(id=-1, name="Ann")])


NAMES: dict[str, Case] = {
    "hybrid": placed(settings="x"),
    "property": placed(where="3/4"),
    "class attribute": placed(colour="blue", x=1),
    "composite": placed(point=Point(1, 2)),
    "synonym": tag({"label": "red", "colour": "blue"}, tried),
    "collection": booked(reviews=[], make=found),
    "no parent": found(
        lambda c: c.get_or_create(Letter, name="a", defaults={"author": None})
    ),
    "association proxy": Case(
        lambda c: c.get_or_create(Author, name="Ann", defaults={"titles": []})
    ),
    "children": Case(
        lambda c: c.get_or_create(
            Node, name="Root", defaults={"children": [Node(name="Leaf")]}
        )
    ),
    "for the constructor": Case(
        lambda c: c.get_or_create(Ticket, code="a", defaults={"price": 2, "count": 3})
    ),
    "not for the constructor": direct(
        lambda c: c.get_or_create(Badge, code="a", defaults={"level": 7})
    ),
    "attribute of the model": tried(lambda c: c.get_or_create(Author, name="Ann")),
}

FACTORIES: dict[str, Case] = {
    "function": Case(
        lambda c: c.get_or_create(
            Tag, name="red", factory=c.function(Tag), defaults={"colour": "green"}
        )
    ),
    "coroutine function": Case(
        lambda c: c.get_or_create(
            Tag,
            name="red",
            factory=c.coroutine(Tag, "factory"),
            defaults={"colour": c.function("green")},
        )
    ),
    "classmethod": Case(
        lambda c: c.get_or_create(
            Ticket, code="a", factory=Ticket.free, defaults={"whatever": 1}
        )
    ),
    "that fills": Case(
        lambda c: c.get_or_create(
            Tag, name="red", factory=lambda name: Tag(name=name, colour=name[::-1])
        )
    ),
    "subclass": Case(lambda c: c.get_or_create(Cat, name="a", factory=Cat)),
}

FILLED: dict[str, Case] = {
    "by everything": Case(lambda c: c.get_or_create(Filled, name="a"), owner),
    "but None": Case(
        lambda c: c.get_or_create(
            *(Filled, Filled.scalar.is_(None)),
            name="a",
            by_server=None,
            defaults={"scalar": lambda: None, "both": None},
        ),
        owner,
    ),
    "a composite": Case(
        lambda c: c.get_or_create(Filled, name="a", span=Span(None, 2)), owner
    ),
    # SQLAlchemy 2.0 sets its parent to None.
    "a dataclass": either(
        lambda c: c.get_or_create(FilledData, name="a", kind="b"), owner
    ),
    "a dataclass's None": Case(
        lambda c: c.get_or_create(FilledData, name="a", kind=None, owner=None), owner
    ),
    "by context": tried(lambda c: c.get_or_create(Odd, name="a")),
    "by context, among others": found(
        lambda c: c.get_or_create(Copied, name="a", defaults={"word": "w"})
    ),
    "lists": direct(
        lambda c: c.get_or_create(
            Listed, name="a", defaults={"document": [1, {}], "pickled": {1: (2,)}}
        )
    ),
    "of another column": Case(
        lambda c: c.get_or_create(
            Pen, author_id=-1, colour="a", defaults={"length": 3}
        ),
        lambda: [Author(id=-1, name="Ann")],
        ("direct", "direct"),
        is_tried=True,
    ),
    "a name of ours": Case(
        lambda c: c.get_or_create(Setting, function="f", defaults={"data": {"a": 1}})
    ),
}


@each(backends=BACKENDS, forms=FORMS)
async def test_forms(ways: Ways, case: Case) -> None:
    """Values, SQL, functions and lazy mappings; each function is called once.

    Fails without `readable` in `Inserts._is_settable`: what is deferred is lost.
    """
    await ways.compare(case)


@each(names=NAMES, factories=FACTORIES, filled=FILLED)
async def test_defaults(ways: Ways, case: Case) -> None:
    """All kinds of defaults give the new row, and its object, the same values."""
    await ways.compare(case)
