"""Updates, and calls for many rows, do the same by a creator as in a session."""

from collections.abc import Iterator
from typing import Any

import pytest
from models import (
    Author,
    Badge,
    Book,
    Cat,
    Employee,
    Node,
    Page,
    Pen,
    Person,
    Place,
    Point,
    Tag,
)
from sqlalchemy import func
from sqlalchemy.orm import selectinload
from vague import Vague, Vector
from ways import Case, Ways, each
from wide import Listed, Spelled, Wide

pytestmark = pytest.mark.heavy


def page() -> list[Any]:
    return [Page(name="a", text="old", likes=1, slug="s")]


def people() -> list[Any]:
    return [Author(id=-1, name="Ann"), Author(id=-2, name="Bob")]


def update(**call: Any) -> Case:
    """An update of a page that is there, and one of a page that is not."""

    async def both(caller: Any) -> Any:
        given = {
            name: value(caller) if name == "made" else value
            for name, value in call.items()
        }
        given |= given.pop("made", {})
        return [
            await caller.update_or_create(Page, name=name, **given) for name in "ab"
        ]

    return Case(both, page)


UPDATES: dict[str, Case] = {
    "nothing": update(),
    "values": update(defaults={"likes": 2, "text": "new"}),
    "same value": update(defaults={"likes": 1}),
    "attribute": update(defaults={Page.likes: 2}),
    "SQL": update(defaults={"views": Page.views + 1}, create_defaults={"views": 1}),
    "function": update(made=lambda c: {"defaults": {"likes": c.function(7)}}),
    "lazy": update(made=lambda c: {"defaults": c.coroutine({"likes": 7})}),
    "values of a new row": update(
        made=lambda c: {
            "defaults": {"likes": c.function(7)},
            "create_defaults": c.function({"views": c.coroutine(5)}),
        }
    ),
    "no values of a new row": update(defaults={"likes": 7}, create_defaults={}),
    "factory": update(
        made=lambda c: {"factory": c.function(Page), "defaults": {"likes": 3}}
    ),
    "key": Case(
        lambda c: c.update_or_create(Page, name="a", defaults={"name": "c"}), page
    ),
    "criterion": Case(
        lambda c: c.update_or_create(Page, Page.name == "a", defaults={"text": "x"})
    ),
    "inheritance": Case(
        lambda c: c.update_or_create(Person, name="Ann", defaults={"name": "Eve"}),
        lambda: [Employee(name="Ann", badge=7)],
    ),
    "document": Case(
        lambda c: c.update_or_create(Author, name="Ann", defaults={"data": {"a": 1}}),
        people,
    ),
    "composite": Case(
        lambda c: c.update_or_create(
            Place, options="x", defaults={"point": Point(1, 2), "colour": "blue"}
        )
    ),
    "what is deferred": Case(
        lambda c: c.update_or_create(Tag, name="a", defaults={"note": "n"}),
        lambda: [Tag(name="a")],
    ),
    "what cannot be compared": Case(
        lambda c: c.update_or_create(
            Vague, name="a", defaults={"vector": Vector([1, 2])}
        ),
        lambda: [Vague(name="a", vector=Vector([1, 2]))],
    ),
}


def rows(caller: Any) -> Iterator[Any]:
    caller.called.append("rows")
    for name in "cab":
        yield {"name": name, "colour": name * 2}


MANY: dict[str, Case] = {
    "nothing": Case(lambda c: c.many(Tag, [])),
    "rows": Case(
        lambda c: c.many(Tag, [{"name": n, "colour": n} for n in "bac"]),
        lambda: [Tag(name="c", colour="old")],
    ),
    "values": Case(lambda c: c.many(Tag, ["b", "a", {"name": "a"}, "b"], key="name")),
    "iterator": Case(lambda c: c.many(Tag, rows(c), key="name")),
    "tuple": Case(lambda c: c.many(Tag, ("a", "b"), key=["name"])),
    "dict's keys": Case(lambda c: c.many(Tag, {"a": 1, "b": 2}.keys(), key="name")),
    "rows that differ": Case(
        lambda c: c.many(
            Tag,
            [{"name": "a"}, {"name": "b", "slug": "s"}, {"name": "c", "id": -3}],
            key="name",
        )
    ),
    "defaults": Case(
        lambda c: c.many(
            Tag,
            ["a", {"name": "b", "colour": "own"}],
            key="name",
            defaults={"colour": c.function("made"), "slug": None},
        )
    ),
    "lazy defaults": Case(
        lambda c: c.many(
            Tag, ["a", "b", "c"], key="name", defaults=c.coroutine({"colour": "made"})
        )
    ),
    "SQL": Case(
        lambda c: c.many(Tag, [{"name": "a", "slug": func.lower("S")}], key="name")
    ),
    "options": Case(
        lambda c: c.many(
            Book,
            [{"author_id": -1, "title": t} for t in "ab"],
            options=[selectinload(Book.author)],
        ),
        people,
    ),
    "chunks and progress": Case(
        lambda c: c.many(
            Tag,
            list("abcde"),
            key="name",
            chunk_size=2,
            progress=lambda *done: c.called.append(str(done)),
        )
    ),
    "NULL": Case(
        lambda c: c.many(
            Pen,
            [{"author_id": None, "colour": "red"}, {"author_id": -1, "colour": "red"}],
            key=["author_id", "colour"],
        ),
        people,
    ),
    "nothing covers it": Case(
        lambda c: c.many(Tag, [{"colour": "red", "name": "a"}], key="colour")
    ),
    "spellings": Case(
        lambda c: c.many(
            Spelled,
            [{"mail": m, "price": None} for m in ("Ann", "ANN", "bob")],
            key="mail",
        )
    ),
    "documents": Case(
        lambda c: c.many(
            Listed,
            [{"name": n, "document": [n], "pickled": (n,)} for n in "ab"],
            key="name",
        )
    ),
    "dataclass": Case(lambda c: c.many(Badge, ["a", "b"], key="code")),
    "single inheritance": Case(
        lambda c: c.many(Cat, [{"name": "a"}, {"name": "b", "lives": 3}], key="name")
    ),
    "joined inheritance": Case(
        lambda c: c.many(Employee, [{"name": "a", "badge": 1}], key="name")
    ),
    "validator": Case(lambda c: c.many(Node, ["A", "b"], key="name")),
    "columns of all kinds": Case(
        lambda c: c.many(
            Wide, [{"name": "a"}, {"name": "b", "is_on": True}], key="name"
        )
    ),
    "update": Case(
        lambda c: c.update_many(
            Page, [{"name": n, "text": "new", "likes": 2} for n in "bca"], key="name"
        ),
        page,
    ),
    "update of some": Case(
        lambda c: c.update_many(
            Page,
            iter([{"name": n, "text": "new", "likes": 2} for n in "ab"]),
            key="name",
            update=["text"],
            defaults={"views": 9},
        ),
        page,
    ),
    "update of nothing": Case(
        lambda c: c.update_many(
            Page, [{"name": n, "likes": 2} for n in "ab"], update=[]
        ),
        page,
    ),
}


async def many_by_parent(caller: Any) -> Any:
    authors = [await caller.load(Author, key) for key in (-1, -2)]
    given = [{"author": a, "colour": c} for a in authors for c in ("red", "blue")]
    return await caller.many(Pen, given)


async def many_by_default(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    given = [{"name": name} for name in "ab"]
    return await caller.many(Page, given, key="name", defaults={"author": author})


async def many_with_parents(caller: Any) -> Any:
    authors = [await caller.load(Author, key) for key in (-1, -2)]
    given = [{"name": n, "author": a} for n, a in zip("ab", authors, strict=True)]
    return await caller.update_many(Page, given, key="name")


async def many_parents(caller: Any) -> Any:
    authors = [await caller.load(Author, key) for key in (-1, -2)]
    return await caller.many(Book, authors, key="author", defaults={"title": "a"})


async def update_by_parent(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    return await caller.update_or_create(Page, name="a", defaults={"author": author})


async def update_with_created(caller: Any) -> Any:
    author = await caller.load(Author, -1)
    values = {"author": author}
    return await caller.update_or_create(Page, name="c", create_defaults=values)


PARENTS = {
    call.__name__: Case(call, lambda: [*people(), *page()])
    for call in (
        *(many_by_parent, many_by_default, many_with_parents, many_parents),
        *(update_by_parent, update_with_created),
    )
}


@each(updates=UPDATES, many=MANY, parents=PARENTS)
async def test_updates_and_many(ways: Ways, case: Case) -> None:
    """Whatever is given, and whatever is there."""
    await ways.compare(case)
