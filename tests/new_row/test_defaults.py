"""What a new row gets."""

from typing import Any

import pytest
from backends import before_sql
from models import Author, Book, Place, Point, Region, Tag, Ticket
from sqlalchemy import func
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import Policy, get_or_create
from async_goc.exceptions import ContradictionError, UnknownFieldError

pytestmark = pytest.mark.one_driver

quiet = Policy(missing_constraint="ignore")


async def _async_green() -> str:
    return "green"


async def _async_mapping() -> dict[str, Any]:
    return {"colour": "green"}


@pytest.mark.parametrize(
    "defaults",
    [
        {"colour": "green"},
        {Tag.colour: "green"},
        {"colour": func.lower("GREEN")},
        {"colour": lambda: "green"},
        {"colour": _async_green},
        lambda: {"colour": "green"},
        lambda: {"colour": _async_green},
        _async_mapping,
    ],
    ids=[
        *("value", "attribute", "sql", "function", "coroutine"),
        *("lazy", "lazy coroutine", "async lazy"),
    ],
)
async def test_forms(session: AsyncSession, defaults: Any) -> None:
    """Defaults may be values, SQL, functions, coroutine functions or lazy mappings."""
    tag, _ = await get_or_create(session, Tag, name="red", defaults=defaults)
    assert tag.colour == "green"


@pytest.mark.parametrize("is_async", [False, True])
async def test_evaluated_once_on_a_miss_outside_the_savepoint(
    session: AsyncSession, statements: list[str], is_async: bool
) -> None:
    """Functions run once, only on a miss, before the SAVEPOINT; a factory inside."""
    seen: list[tuple[str, list[str]]] = []

    def note(what: str, value: Any) -> Any:
        seen.append((what, list(statements)))
        return value

    async def anote(what: str, value: Any) -> Any:
        return note(what, value)

    record: Any = anote if is_async else note

    def factory(**values: Any) -> Any:
        return record("factory", Tag(**values))

    def defaults() -> Any:
        return record("mapping", {"colour": lambda: record("value", "green")})

    for _ in range(2):
        tag, _ = await get_or_create(
            session, Tag, name="red", defaults=defaults, factory=factory
        )
        assert tag.colour == "green"
    assert [what for what, _ in seen] == ["mapping", "value", "factory"]
    assert all("SAVEPOINT" not in sent for what, sent in seen)


@pytest.mark.parametrize("place", ["mapping", "value", "lazy"])
async def test_raising_defaults(
    session: AsyncSession, statements: list[str], place: str
) -> None:
    """Defaults that raise leave nothing behind."""

    def fail() -> Any:
        raise LookupError

    defaults: Any = {
        "mapping": fail,
        "value": {"colour": fail},
        "lazy": lambda: {"colour": fail},
    }[place]
    with pytest.raises(LookupError):
        await get_or_create(session, Tag, name="red", defaults=defaults)
    assert statements[:1] == ["SELECT"]
    assert "SAVEPOINT" not in statements
    _, created = await get_or_create(session, Tag, name="red")
    assert created


async def test_rows_that_lazy_defaults_add(session: AsyncSession) -> None:
    """What a defaults function adds to the session is the caller's, and is flushed."""

    async def defaults() -> dict[str, Any]:
        session.add(Tag(name="red", colour="mine"))
        return {"colour": "default"}

    tag, created = await get_or_create(session, Tag, name="red", defaults=defaults)
    assert (tag.colour, created) == ("mine", False)


@before_sql
@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize(
    ("model", "lookup", "defaults"),
    [
        (Tag, {"name": "red"}, {"nmae": 1}),
        (Tag, {"name": "red"}, {"metadata": 1}),
        (Tag, {"name": "red"}, {"registry": 1}),
        (Tag, {"name": "red"}, {Author.name: 1}),
        (Place, {"settings": "x"}, {"area": 1}),
        (Place, {"settings": "x"}, {"lower_email": 1}),
        (Place, {"settings": "x"}, {"distance": 1}),
        (Place, {"settings": "x"}, {"_lower_email": 1}),
        (Ticket, {"code": "x"}, {"free": 1}),
    ],
)
async def test_unknown_default(
    session: AsyncSession,
    statements: list[str],
    found: bool,
    model: type[Any],
    lookup: Any,
    defaults: Any,
) -> None:
    """A default that the model cannot take is refused before any SQL, on a hit too."""
    if found:
        session.add(model(**lookup, **({"price": 1} if model is Ticket else {})))
        await session.flush()
        statements.clear()
    with pytest.raises(UnknownFieldError):
        await get_or_create(session, model, defaults=defaults, **lookup)
    assert not statements


async def test_unknown_name_in_lazy_defaults(session: AsyncSession) -> None:
    """Lazy defaults are checked on the miss."""
    with pytest.raises(UnknownFieldError, match="nmae"):
        await get_or_create(session, Tag, name="x", defaults=lambda: {"nmae": 1})


@before_sql
async def test_contradictions(session: AsyncSession, statements: list[str]) -> None:
    """A default that the lookup would not find again is refused before any SQL."""
    here, there = Region(country="AT", number=1), Region(country="DE", number=1)
    session.add_all([here, there])
    ann, bob = Author(name="Ann"), Author(name="Bob")
    session.add_all([ann, bob])
    await session.flush()
    statements.clear()
    name, place = {"name": "red"}, {"settings": "x", "x": 1}
    cases: list[tuple[type[Any], tuple[Any, ...], dict[str, Any], dict[Any, Any]]] = [
        (Tag, (), name, {"name": "blue"}),
        (Tag, (), name, {Tag.name: None}),
        (Tag, (), name, {"label": "blue"}),
        (Tag, (), name, {"name": func.lower("RED")}),
        (Tag, (Tag.name == "red",), {}, {"name": "blue"}),
        (Book, (), {"author": ann, "title": "x"}, {"author_id": bob.id}),
        (Book, (), {"author_id": ann.id, "title": "x"}, {"author": bob}),
        (Place, (), place, {"point": Point(2, 2)}),
        (Place, (Place.point == Point(1, 1),), {}, {"x": 2}),
    ]
    for model, criteria, lookup, defaults in cases:
        with pytest.raises(ContradictionError) as raised:
            await get_or_create(session, model, *criteria, defaults=defaults, **lookup)
        assert raised.value.model is model
        assert "would not find" in str(raised.value)
    assert not statements


async def test_agreement(session: AsyncSession) -> None:
    """A default may repeat what the lookup says, in another form."""
    ann = Author(name="Ann")
    session.add(ann)
    await session.flush()
    book, created = await get_or_create(
        session,
        Book,
        author=ann,
        title="x",
        defaults={"author_id": ann.id, "title": lambda: "x", "reviews": []},
    )
    assert created
    assert book.author is ann
    book, _ = await get_or_create(
        session,
        Book,
        author_id=ann.id,
        title="z",
        # It has no key to compare: nothing says that they contradict each other.
        defaults={"author": Author(id=ann.id + 1, name="Cid")},
    )
    assert book.author.name == "Cid"
    new = Author(name="Eve")
    with pytest.raises(ContradictionError):
        await get_or_create(
            session, Book, author=ann, title="y", defaults={"author": new}
        )
    tag, _ = await get_or_create(
        session, Tag, Tag.slug.is_(None), name="red", defaults={"colour": "f00"}
    )
    assert tag.slug is None


async def test_contradicting_function(session: AsyncSession) -> None:
    """A function's value is compared once it is known."""
    with pytest.raises(ContradictionError):
        await get_or_create(session, Tag, name="x", defaults={"name": lambda: "y"})


@before_sql
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"defaults": 7}, "defaults is of type int"),
        ({"defaults": {7: 1}}, "name is of type int"),
        ({"factory": 7}, "factory is of type int"),
        ({"options": "x"}, "give Tag.options == value as a positional"),
    ],
)
async def test_wrong_types(
    session: AsyncSession, statements: list[str], arguments: Any, message: str
) -> None:
    """Arguments of the wrong type are refused before any SQL."""
    with pytest.raises(TypeError, match=message):
        await get_or_create(session, Tag, name="red", **arguments)
    assert not statements
