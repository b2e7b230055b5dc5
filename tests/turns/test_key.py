"""Equal lookups meet at one key; different ones seldom do."""

import gc
from inspect import signature
from typing import Any
from uuid import UUID
from weakref import ref

import pytest
from backends import POSTGRES
from models import (
    Author,
    Employee,
    Place,
    Point,
    Region,
    Review,
    Setting,
    Tag,
)
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    Uuid,
    func,
    or_,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, registry
from sqlalchemy.schema import CreateSchema

from async_goc import KeyedLocks, Policy, get_or_create
from async_goc._lookup.lookup import bind
from async_goc._turns.key import Key, key_of, keys_of

# Nothing here connects.
ENGINE = create_async_engine("postgresql+asyncpg://nowhere/none")
MARIADB = create_async_engine("mysql+asyncmy://nowhere/none")
SQLITE = create_async_engine("sqlite+aiosqlite:///none")


class Lowered(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: object) -> str | None:
        return None if value is None else value.lower()


class Typed:
    """A model of the types that need care."""


registry().map_imperatively(
    Typed,
    Table(
        "typed",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("uuid", Uuid, unique=True),
        Column("citext", CITEXT, unique=True),
        Column("nocase", String(collation="NOCASE"), unique=True),
        Column("binary", String(collation="utf8mb4_bin"), unique=True),
        Column("text", String(99), unique=True),
        Column("lowered", Lowered, unique=True),
    ),
)


def key(
    model: type[Any], *criteria: Any, engine: Any = ENGINE, **lookup: Any
) -> Key | None:
    session = AsyncSession(engine)
    bound = bind(session, model, criteria, lookup)
    return key_of(bound, (session.get_bind(model), {}, None))


UUID_1 = UUID(int=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(Tag, name="x"), key(Tag, Tag.name == "x")),
        (key(Tag, name="x"), key(Tag, Tag.colour == "blue", name="x")),
        (key(Region, country="de", number=1), key(Region, number=1, country="de")),
        (key(Place, x=1, y=2), key(Place, point=Point(1, 2))),
        (key(Place, x=1, y=2, closed_at=None), key(Place, x=1, y=2)),
        (
            key(Place, func.lower(Place.email) == "a@b.c"),
            key(Place, Place.x == 1, func.lower(Place.email) == "a@b.c"),
        ),
        (
            key(Place, Place.closed_at.is_(None), code="c"),
            key(Place, code="c", closed_at=None),
        ),
        (key(Typed, uuid=UUID_1), key(Typed, uuid=str(UUID_1))),
        (key(Typed, citext="Ä"), key(Typed, citext="ä")),
        (key(Typed, nocase="A"), key(Typed, nocase="a ")),
        (key(Typed, lowered="A"), key(Typed, lowered="a")),
        (
            key(Typed, text="Élan ", engine=MARIADB),
            key(Typed, text="elan", engine=MARIADB),
        ),
        (key(Review, stars=1), key(Review, Review.stars == 1)),
        (key(Setting, data={"a": 1, "b": 2}), key(Setting, data={"b": 2, "a": 1})),
    ],
)
def test_meets(one: Key | None, other: Key | None) -> None:
    """A lookup has the same key however it is written."""
    assert one is not None
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (key(Tag, name="x"), key(Tag, name="y")),
        (key(Tag, name="x"), key(Tag, name="x", engine=MARIADB)),
        (key(Tag, name="x", engine=SQLITE), key(Tag, name="y", engine=SQLITE)),
        (key(Tag, name="x"), key(Author, name="x")),
        (key(Typed, text="A"), key(Typed, text="a")),
        (
            key(Typed, binary="A", engine=MARIADB),
            key(Typed, binary="a", engine=MARIADB),
        ),
        (key(Review, stars=1), key(Review, stars=1, book_id=None)),
    ],
)
def test_does_not_meet(one: Key | None, other: Key | None) -> None:
    """Lookups for different rows have different keys."""
    assert one != other


def test_derived_engines_are_one_database() -> None:
    """An engine's options change nothing about whose rows they are."""
    derived = ENGINE.execution_options(isolation_level="SERIALIZABLE")
    assert key(Tag, name="x", engine=derived) == key(Tag, name="x")


@pytest.mark.parametrize(
    "criteria",
    [
        (or_(Tag.name == "x", Tag.name == "y"),),
        (Tag.name.like("x%"),),
    ],
)
def test_no_key(criteria: tuple[Any, ...]) -> None:
    """A lookup that fixes no value has no key: the database decides."""
    assert key(Tag, *criteria) is None


def test_expressions_have_no_key() -> None:
    """An SQL expression has no value yet."""
    assert key(Tag, name=func.lower("X")) is None


def test_the_constraints_table_counts() -> None:
    """A subclass and its parent meet where the constraint is the parent's."""
    found = key(Employee, name="ann")
    assert found is not None
    assert (found[0].table, found[0].columns) == ("person", ("name",))


class Unfreezable:
    __hash__ = None  # type: ignore[assignment]


BOTTOMLESS: list[Any] = []


BOTTOMLESS.append(BOTTOMLESS)


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise MemoryError


def test_what_knows_no_bounds_has_no_key() -> None:
    """Nothing in a value makes the call fail because of its key."""
    assert key(Setting, data=BOTTOMLESS) is None
    assert key(Setting, data=Broken()) is None
    assert key(Typed, uuid="no uuid") is not None
    assert key(Tag, name=Unfreezable()) == key(Tag, name=Unfreezable())
    session = AsyncSession(ENGINE)
    bound = bind(session, Setting, (), {"data": 1})
    where = (session.get_bind(Setting), {}, None)
    keys = keys_of(bound, [{"data": BOTTOMLESS}, {"data": 1}], where)
    assert keys == [None, key(Setting, data=1)]


def test_keys_are_short() -> None:
    """What a client sends has no part in what a key takes, be it in an expression."""
    long = "x" * 10**6
    for found, other in (
        (key(Tag, name=long), key(Tag, name=long + "y")),
        (
            key(Place, func.coalesce(Place.email, long) == long),
            key(Place, func.coalesce(Place.email, long + "y") == long),
        ),
    ):
        assert found is not None
        assert other is not None
        assert len(repr(found[2:])) < 500
        assert found != other


def test_nothing_keeps_an_engine_or_a_model() -> None:
    """What is remembered of an engine or a model goes with it."""

    def make() -> tuple[ref[Any], ref[Any]]:
        class Model:
            """A model made at run time, of a type whose functions know the dialect."""

        id_ = Column("id", Integer, primary_key=True)
        table = Table("model", MetaData(), id_, Column("name", Lowered, unique=True))
        registry().map_imperatively(Model, table)
        engine = create_async_engine("postgresql+asyncpg://nowhere/none")
        assert key(Model, name="A", engine=engine) is not None
        assert key(Model, name=None, engine=ENGINE) is not None
        return ref(engine.dialect), ref(Model)

    engine, model = make()
    gc.collect()
    assert (engine(), model()) == (None, None)


def test_the_schema_is_the_one_that_the_statement_names() -> None:
    """Tenants in schemas of their own are kept apart."""
    session = AsyncSession(ENGINE)
    lookup = bind(session, Tag, (), {"name": "x"})
    found = key_of(lookup, (session.get_bind(Tag), {None: "tenant"}, "namespace"))
    assert found is not None
    assert (found[0].schema, found[2]) == ("tenant", "namespace")


@pytest.mark.parametrize("way", ["engine", "session", "connection"])
@pytest.mark.parametrize("backend", POSTGRES, indirect=True)
async def test_schema_translate_map(engine: AsyncEngine, way: str) -> None:
    """The map is found wherever SQLAlchemy takes it from."""
    options: Any = {"schema_translate_map": {None: "tenant"}}
    if way == "engine":
        session = AsyncSession(engine.execution_options(**options))
    elif way == "session":
        if "execution_options" not in signature(Session).parameters:
            pytest.skip("SQLAlchemy 2.0 has no options for sessions")
        session = AsyncSession(engine, execution_options=options)
    else:
        session = AsyncSession(engine)
        await session.connection(execution_options=options)
    locks = KeyedLocks()
    async with session:
        await session.execute(CreateSchema("tenant"))
        connection = await session.connection()
        await connection.run_sync(Tag.__table__.create)
        for name in ("x", "y"):
            await get_or_create(session, Tag, name=name, policy=Policy(locks=locks))
        keys = list(locks.queues()._holders)
    assert [key[0].schema for key in keys] == ["tenant"] * 2
    assert locks.statistics().held == 0
