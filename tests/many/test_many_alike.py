"""Rows inserted in bulk are what a flush would have stored, whatever the columns."""

import enum
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from backends import on_postgres
from sqlalchemy import (
    CHAR,
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Float,
    LargeBinary,
    Numeric,
    PickleType,
    Sequence,
    String,
    UniqueConstraint,
    column,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column
from sqlalchemy.types import TypeDecorator

from async_goc import Event, Policy, get_or_create_many


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "r"


class Reversed(TypeDecorator[str]):
    impl = String(9)
    cache_ok = True

    def process_bind_param(self, value: str | None, _: object) -> str | None:
        return value and value[::-1]

    process_result_value = process_bind_param


class Bracketed(TypeDecorator[str]):
    """Stored through SQL, which has no place in an array."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.concat("[", bindparam, "]")


def copied(context: Any) -> str:
    return f"copy of {context.get_current_parameters()['word']}"


class Odd(Base):
    """Columns of all kinds; an array takes them, or one of them forbids it."""

    __tablename__ = "odd_in_bulk"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("nom", String(5), unique=True)
    keyed: Mapped[str | None] = mapped_column("a", key="b")
    word: Mapped[str | None] = mapped_column(Reversed)
    fraction: Mapped[float | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    data: Mapped[bytes | None]
    colour: Mapped[Colour | None]
    uuid: Mapped[UUID | None]
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    day: Mapped[date | None]
    hour: Mapped[time | None]
    span: Mapped[timedelta | None]
    is_on: Mapped[bool | None]
    big: Mapped[int | None] = mapped_column(BigInteger)
    document: Mapped[Any] = mapped_column(JSON, nullable=True)
    size: Mapped[int | None] = mapped_column(default=3)
    length: Mapped[int] = mapped_column(insert_default=lambda: 4)
    level: Mapped[int] = mapped_column(server_default="7")
    shade: Mapped[str] = mapped_column(default=func.lower("DARK"))
    note: Mapped[str | None] = mapped_column(deferred=True)
    double = column_property(2 * column("level"))


class Copied(Base):
    __tablename__ = "copied_in_bulk"

    id: Mapped[int] = mapped_column(Sequence("bulk_numbers"), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    word: Mapped[str | None]
    copy: Mapped[str] = mapped_column(default=copied)
    at: Mapped[int] = mapped_column(default=int)
    made: Mapped[Any] = mapped_column(JSON, default=lambda: {"x": 1}, nullable=True)


class Animal(Base):
    __tablename__ = "animal_in_bulk"
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "animal",
    }

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012
    lives: Mapped[int | None] = mapped_column(default=9)


class Keys(Base):
    """Keys that travel as ordinary parameters, on one database or the other."""

    __tablename__ = "keys_in_bulk"
    __table_args__ = (UniqueConstraint("fraction", "padded"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    padded: Mapped[str | None] = mapped_column(CHAR(4), unique=True)
    fraction: Mapped[float | None] = mapped_column(Float)
    data: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    document: Mapped[Any] = mapped_column(JSON, nullable=True)
    bracketed: Mapped[str | None] = mapped_column(String)


class Arrays(Base):
    """What only PostgreSQL has."""

    __tablename__ = "arrays_in_bulk"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(CITEXT().with_variant(String(), "sqlite"))
    items: Mapped[Any] = mapped_column(ARRAY(String).with_variant(String(), "sqlite"))
    wrapped: Mapped[str | None] = mapped_column(Bracketed())
    varied: Mapped[Any] = mapped_column(
        String().with_variant(ARRAY(String), "postgresql"), nullable=True
    )
    __table_args__ = (UniqueConstraint("name"),)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    def make(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS citext")
        Base.metadata.create_all(connection)

    def drop(connection: Connection) -> None:
        Base.metadata.drop_all(connection)

    async with engine.begin() as connection:
        await connection.run_sync(make)
    async with AsyncSession(engine) as session:
        yield session
    async with engine.begin() as connection:
        await connection.run_sync(drop)


async def stored(
    session: AsyncSession, model: type[Any], rows: list[dict[str, Any]], *, bulk: bool
) -> list[Any]:
    """Insert the rows, in one way or the other; return them as the driver does."""
    if bulk:
        events: list[Event] = []
        result = await get_or_create_many(
            session, model, rows, key="name", policy=Policy(observer=events.append)
        )
        assert [created for _, created in result] == [True] * len(rows)
        assert events[0].strategy == "native"
        for instance, _ in result:
            assert not inspect(instance).expired_attributes
            assert not inspect(instance).modified
    else:
        session.add_all(model(**row) for row in rows)
        await session.flush()
    name = model.__table__.name
    columns = [column(c.name) for c in model.__table__.c if c.name != "id"]
    found = await session.execute(select(*columns).select_from(table(name)))
    values = sorted(tuple(map(str, row)) for row in found)
    await session.rollback()
    return values


FULL: dict[str, Any] = {
    "keyed": "k",
    "word": "word",
    "fraction": 0.1 + 0.2,
    "price": Decimal("1.25"),
    "data": b"x\0y",
    "colour": Colour.RED,
    "uuid": uuid4(),
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "day": date(2026, 1, 1),
    "hour": time(1, 2),
    "span": timedelta(days=1, seconds=5),
    "is_on": True,
    "big": 2**60,
    "document": {"a": [1, None]},
    "size": 5,
    "level": 8,
    "shade": "light",
    "note": "n",
}


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (
            Odd,
            [{"name": "a"}, {"name": "b"} | FULL, {"name": "c"} | dict.fromkeys(FULL)],
        ),
        (Copied, [{"name": "a"}, {"name": "b", "word": "w", "copy": "own"}]),
        (
            Copied,
            [{"name": "a", "made": None}, {"name": "b", "made": [1], "copy": None}],
        ),
        (Animal, [{"name": "a"}]),
        (Cat, [{"name": "a"}, {"name": "b", "lives": 1}]),
    ],
)
async def test_alike(
    session: AsyncSession, model: type[Any], rows: list[dict[str, Any]]
) -> None:
    """Types, defaults of all kinds, NULLs, and what tells subclasses apart."""
    flushed = await stored(session, model, rows, bulk=False)
    assert await stored(session, model, rows, bulk=True) == flushed


async def test_readable(session: AsyncSession) -> None:
    """All columns are loaded, expressions included; deferred ones are not."""
    ((odd, _),) = await get_or_create_many(session, Odd, [{"name": "a", "note": "n"}])
    assert (odd.double, odd.shade, odd.level) == (14, "dark", 7)
    assert "note" in inspect(odd).unloaded


class Chosen(TypeDecorator[Any]):
    """An array where the database has them, and text elsewhere."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        is_array = dialect.name == "postgresql"
        return dialect.type_descriptor(ARRAY(String) if is_array else String())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if dialect.name == "postgresql" else str(value)


class Listed(Base):
    """Values that are lists, of which an array would make dimensions."""

    __tablename__ = "listed_in_bulk"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    document: Mapped[Any] = mapped_column(JSON)
    pickled: Mapped[Any] = mapped_column(PickleType)


class ChosenList(Base):
    __tablename__ = "chosen_in_bulk"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    items: Mapped[Any] = mapped_column(Chosen)


@pytest.mark.parametrize(
    "values", [([1], {"x": 1}), (["a", "b"], ["c"]), ([], {}), ((1, 2), [3])]
)
async def test_lists(session: AsyncSession, values: tuple[Any, ...]) -> None:
    """Each row has its own, whatever the first one is."""
    rows = [
        {"name": f"{n}", "document": value, "pickled": value}
        for n, value in enumerate(values)
    ]
    flushed = await stored(session, Listed, rows, bulk=False)
    assert await stored(session, Listed, rows, bulk=True) == flushed
    rows = [{"name": f"{n}", "items": ["x", "y"]} for n in range(2)]
    flushed = await stored(session, ChosenList, rows, bulk=False)
    assert await stored(session, ChosenList, rows, bulk=True) == flushed


class Beast(Base):
    __tablename__ = "beast_in_bulk"
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "beast",
    }

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]


class Dog(Beast):
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012
    chip: Mapped[str | None] = mapped_column(default=lambda: uuid4().hex, unique=True)


async def test_defaults_of_columns_that_are_not_mapped(session: AsyncSession) -> None:
    """A sibling's column has one for each row, too."""
    rows = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    for model in (Beast, Dog):
        result = await get_or_create_many(session, model, rows)
        assert all(created for _, created in result)
        chips = await session.scalars(select(Beast.__table__.c.chip))
        assert len(set(chips) - {None}) in {0, 3}
        await session.rollback()


@on_postgres
async def test_primary_key_of_a_deleted_row(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The object of the old row shows the new one."""
    await get_or_create_many(session, Keys, [{"id": 7, "padded": "old"}], key="padded")
    await session.commit()
    await session.refresh((await session.scalars(select(Keys))).one())
    old = await session.get(Keys, 7)
    async with engine.begin() as connection:
        await connection.execute(Keys.__table__.delete())
    ((new, created),) = await get_or_create_many(
        session, Keys, [{"id": 7, "padded": "new"}], key="padded"
    )
    assert created
    assert new is old
    assert new.padded.strip() == "new"


@on_postgres
async def test_too_long(session: AsyncSession) -> None:
    """An array's type does not cut off what the column refuses."""
    with pytest.raises(DBAPIError):
        await get_or_create_many(session, Odd, [{"name": "far too long"}])
    with pytest.raises(DBAPIError):
        await get_or_create_many(session, Odd, [{"name": "a", "word": "x" * 10}])


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["padded"], [{"padded": "ab"}, {"padded": "abcd"}]),
        (["fraction"], [{"fraction": 0.1 + 0.2}, {"fraction": 1e300}]),
        (["data"], [{"data": b"\0"}, {"data": b"x"}]),
        (
            ["fraction", "padded"],
            [{"fraction": 0.5, "padded": "a"}, {"fraction": 0.5, "padded": "b"}],
        ),
        (["padded"], [{"padded": None}]),
        (["document"], [{"document": None}]),
    ],
)
async def test_keys(
    session: AsyncSession, names: list[str], rows: list[dict[str, Any]]
) -> None:
    """They are told apart, and found again, whichever way they travel."""
    policy = Policy(missing_constraint="ignore")
    for expected in (True, False):
        result = await get_or_create_many(session, Keys, rows, key=names, policy=policy)
        assert [created for _, created in result] == [expected] * len(rows)
        assert len({instance.id for instance, _ in result}) == len(rows)
        session.expunge_all()


@on_postgres
async def test_case_that_does_not_matter(session: AsyncSession) -> None:
    """Keys that only the database takes for equal share a row, and an instance."""
    rows = [
        {"name": n, "items": ["x", n], "wrapped": n, "varied": ["v"]}
        for n in ("Ann", "ANN", "bob")
    ]
    result = await get_or_create_many(session, Arrays, rows)
    assert sum(created for _, created in result) == 2
    assert result[0][0] is result[1][0]
    assert result[2][0].items == ["x", "bob"]
    assert result[2][0].wrapped == "[bob]"
    assert result[2][0].varied == ["v"]
    again = await get_or_create_many(session, Arrays, rows)
    assert [instance for instance, _ in again] == [instance for instance, _ in result]
    assert not any(created for _, created in again)
