"""A natively created object is what a flush would have made of it."""

import enum
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from models import Animal, Cat
from sqlalchemy import (
    JSON,
    Computed,
    Connection,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    Sequence,
    String,
    TypeDecorator,
    column,
    func,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    relationship,
)

from async_goc import Policy, get_or_create
from async_goc._call.policy import Strategy


class Base(DeclarativeBase):
    pass


class Colour(enum.Enum):
    RED = "r"


class Reversed(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: object) -> str | None:
        return value and value[::-1]

    process_result_value = process_bind_param


class Blank(TypeDecorator[str]):
    """Stores nothing as something."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: object) -> str:
        return value or ""

    def process_result_value(self, value: str | None, _: object) -> str | None:
        return value or None


class Clause:
    """What the ORM takes for an SQL expression."""

    def __clause_element__(self) -> object:
        return func.upper("made")


def copied(context: Any) -> str:
    """A default that reads another value, which nobody may have given."""
    return f"copy of {context.get_current_parameters()['b']}"


class Odd(Base):
    """Columns of all kinds."""

    __tablename__ = "odd"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column("nom", unique=True)
    keyed: Mapped[str | None] = mapped_column("a", String, key="b")
    word: Mapped[str | None] = mapped_column(Reversed)
    blank: Mapped[str | None] = mapped_column(Blank)
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour))
    data: Mapped[Any] = mapped_column(JSON, nullable=True)
    data_or_null: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    size: Mapped[int | None] = mapped_column(default=3)
    length: Mapped[int] = mapped_column(insert_default=lambda: 4)
    area: Mapped[int] = mapped_column(Computed("size * length"))
    level: Mapped[int] = mapped_column(server_default="7")
    shade: Mapped[str] = mapped_column(default=func.lower("DARK"))
    note: Mapped[str | None] = mapped_column(deferred=True)
    remark: Mapped[str] = mapped_column(deferred=True, default="none")
    copy: Mapped[str] = mapped_column(default=copied)
    seen_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), default=lambda: datetime(2026, 1, 1, tzinfo=UTC)
    )
    pairs: Mapped[Any] = mapped_column(JSON, default=lambda: {1: (2,)})
    made_at: Mapped[Any] = mapped_column(DateTime, server_default=func.now())
    double = column_property(2 * column("level", Integer))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("odd.id"))
    children: Mapped[list["Odd"]] = relationship()


class Numbered(Base):
    """A primary key from a sequence."""

    __tablename__ = "numbered"

    id: Mapped[int] = mapped_column(Sequence("numbers"), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    def make(connection: Connection) -> None:
        Base.metadata.create_all(connection)

    def drop(connection: Connection) -> None:
        Base.metadata.drop_all(connection)

    async with engine.begin() as connection:
        await connection.run_sync(make)
    async with AsyncSession(engine) as session:
        yield session
    async with engine.begin() as connection:
        await connection.run_sync(drop)


async def made(
    session: AsyncSession, strategy: Strategy, model: type[Any], values: Any
) -> tuple[Any, ...]:
    """Create, undo, and return all that can be seen of it."""
    strategies: list[str] = []
    policy = Policy(
        strategy=strategy, observer=lambda event: strategies.append(event.strategy)
    )
    async with session.begin():
        instance, created = await get_or_create(
            session, model, name="n", id=5, defaults=values, policy=policy
        )
        assert created
        assert strategies == [strategy]
        state: Any = inspect(instance)
        names = {p.key for p in state.mapper.column_attrs if not p.deferred}
        row = (await session.execute(select(*model.__table__.c))).mappings().one()
        seen = (
            {name: getattr(instance, name) for name in names - {"made_at"}},
            {name: state.dict.get(name) for name in ("note", "remark")},
            state.unloaded - names,
            state.expired_attributes & names,
            state.modified,
            state.key,
            {name: value for name, value in row.items() if name != "made_at"},
        )
        assert pickle.loads(pickle.dumps(instance)).name == "n"  # noqa: S301
        await session.delete(instance)
    return seen


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Odd, {}),
        (Odd, {"keyed": "k", "word": "w", "colour": Colour.RED, "size": 5}),
        (Odd, {"data": None, "data_or_null": None, "size": None, "shade": "light"}),
        (Odd, {"data": {"a": [1]}, "note": "deferred", "level": func.abs(-8)}),
        (Odd, {"note": func.lower("N"), "remark": None, "blank": None}),
        (Odd, {"keyed": Clause(), "remark": func.lower("R"), "copy": "given"}),
        (Numbered, {}),
        (Animal, {}),
        (Cat, {"lives": None}),
        (Cat, {"lives": 1}),
    ],
)
async def test_alike(session: AsyncSession, model: type[Any], values: Any) -> None:
    """Whatever the columns are: the row, and the instance's state, are the same."""
    flushed = await made(session, "savepoint", model, values)
    assert await made(session, "native", model, values) == flushed
