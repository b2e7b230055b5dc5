"""Constructors that may do more than to set columns keep the unit of work."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast, dataclass_transform

import pytest
import sqlalchemy as sa
from made import create, create_tables
from pydantic import PrivateAttr
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    registry,
    relationship,
)
from sqlalchemy.orm.decl_api import DeclarativeAttributeIntercept
from sqlmodel import Field, SQLModel

from async_goc import get_or_create_many

pytestmark = pytest.mark.one_driver


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


def new_base() -> type[Any]:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    return Base


class Columns(MappedAsDataclass):
    name: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int | None] = mapped_column(default=None)


def after_init(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"

        def __post_init__(self) -> None:
            self.size = 8

    return Made


def by_hand(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"

        def __init__(self, name: str) -> None:
            self.name, self.size = name, 8

    return Made


def by_hand_in_parent(_: Any) -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "made"
        name: Mapped[str] = mapped_column(primary_key=True)
        size: Mapped[int | None]
        kind: Mapped[str]
        __mapper_args__ = {  # noqa: RUF012
            "polymorphic_on": "kind",
            "polymorphic_identity": "parent",
        }

        def __init__(self, name: str) -> None:
            self.name, self.size = name, 8

    class Made(Parent):
        __mapper_args__ = {"polymorphic_identity": "made"}  # noqa: RUF012

    return Made


def on_setting(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, 8 if name == "size" else value)

    return Made


def new_fields() -> Any:
    class Fields(SQLModel, registry=registry()):
        name: str = Field(primary_key=True)
        size: int | None = None

    return Fields


def on_setting_without(_: Any) -> type[Any]:
    """A hook where there is no constructor but SQLAlchemy's."""

    class Base(DeclarativeBase):
        pass

    class Made(Base):
        __tablename__ = "made"
        name: Mapped[str] = mapped_column(primary_key=True)
        size: Mapped[int | None]

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "name":
                self.size = 8

    return Made


def after_fields(_: Any) -> type[Any]:
    class Made(new_fields(), table=True):
        __tablename__ = "made"

        def model_post_init(self, _: object) -> None:
            self.size = 8

    return Made


def fields_by_hand(_: Any) -> type[Any]:
    class Made(new_fields(), table=True):
        __tablename__ = "made"

        def __init__(self, **values: Any) -> None:
            super().__init__(**values | {"size": 8})

    return Made


def private_field(_: Any) -> type[Any]:
    class Made(new_fields(), table=True):
        __tablename__ = "made"
        _seen: int = PrivateAttr(default=1)

    return Made


@dataclass_transform()
class Marked(DeclarativeAttributeIntercept):
    """Says that its classes get their constructors from their fields."""


def by_hand_all_the_same(_: Any) -> type[Any]:
    class Base(DeclarativeBase, metaclass=Marked):
        pass

    class Made(Base):
        __tablename__ = "made"
        name: Mapped[str] = mapped_column(primary_key=True)
        size: Mapped[int | None]

        def __init__(self, name: str) -> None:
            self.name, self.size = name, 8

    return Made


def not_a_column(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"
        seen: list[int] = field(default_factory=list)

    return Made


def own_children(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"
        parent: Mapped[str | None] = mapped_column(
            sa.ForeignKey("made.name"), default=None
        )
        children: Mapped[list["Made"]] = relationship(default_factory=list)

    return Made


def by_expression(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"
        word: Mapped[str | None] = mapped_column(
            default_factory=lambda: sa.func.lower("A")
        )

    return Made


def listened_to(base: Any) -> type[Any]:
    class Made(Columns, base):
        __tablename__ = "made"

    def fill(_: object, __: object, values: dict[str, Any]) -> None:
        values["size"] = 8

    sa.event.listen(Made, "init", fill)
    return Made


def filling(*, is_many: bool) -> type[Any]:
    """A dataclass that makes its children."""

    @dataclass
    class Part:
        word: str
        owner: str | None = None

    def make() -> Any:
        return [Part("x")] if is_many else Part("x")

    @dataclass
    class Made:
        name: str
        size: int | None = None
        parts: Any = field(default_factory=make)

    metadata, name = sa.MetaData(), sa.Column("name", sa.String, primary_key=True)
    made = sa.Table("made", metadata, name, sa.Column("size", sa.Integer))
    word = sa.Column("word", sa.String, primary_key=True)
    owner = sa.Column("owner", sa.ForeignKey("made.name"), primary_key=True)
    part = sa.Table("made_part", metadata, word, owner)
    # A declarative model cannot have such a default since SQLAlchemy 2.1.
    mapped, model = registry(), cast("Any", Made)
    mapped.map_imperatively(Part, part)
    properties = {"parts": relationship(Part, uselist=is_many)}
    mapped.map_imperatively(Made, made, properties=properties)
    model.metadata, model.__table__ = metadata, made
    return model


def children(_: Any) -> type[Any]:
    return filling(is_many=True)


def one_child(_: Any) -> type[Any]:
    return filling(is_many=False)


@pytest.mark.parametrize(
    "make",
    [
        *(after_init, by_hand, by_hand_in_parent, on_setting, on_setting_without),
        *(after_fields, fields_by_hand, private_field, by_hand_all_the_same),
        *(children, one_child),
    ],
)
async def test_constructors_that_may_do_more(
    session: AsyncSession, make: Callable[[Any], type[Any]]
) -> None:
    """The unit of work inserts what they make, by whatever verb.

    Fails without `fills_relationship` in `_of_model`, and without `_overrides` in
    `has_generated_constructor`.
    """
    model = make(new_base())
    await create_tables(session, model)
    rows = [{"name": "a"}, {"name": "b"}]
    expected, _ = await create(session, model, rows, "savepoint")
    for way in ("native", "bulk"):
        assert await create(session, model, rows, way) == (expected, {"savepoint"})


def listened_to_without(_: Any) -> type[Any]:
    """A listener where there is no constructor but SQLAlchemy's."""

    class Base(DeclarativeBase):
        pass

    class Made(Base):
        __tablename__ = "made"
        name: Mapped[str] = mapped_column(primary_key=True)
        size: Mapped[int | None]

    def fill(_: object, __: object, values: dict[str, Any]) -> None:
        values["size"] = 8

    sa.event.listen(Made, "init", fill)
    return Made


@pytest.mark.parametrize(
    "make",
    [not_a_column, own_children, by_expression, listened_to, listened_to_without],
)
async def test_more_than_a_select_would_load(
    session: AsyncSession, make: Callable[[Any], type[Any]]
) -> None:
    """One row's constructor may set it; in bulk, the unit of work keeps it."""
    model = make(new_base())
    await create_tables(session, model)
    rows = [{"name": "a"}, {"name": "b"}]
    expected, _ = await create(session, model, rows, "savepoint")
    assert await create(session, model, rows, "native") == (expected, {"native"})
    found, strategies = await create(session, model, rows, "bulk")
    assert found == expected
    # Since SQLAlchemy 2.1, a dataclass does not set its collections.
    assert strategies == {"savepoint"} or make is own_children


async def test_children_made_by_a_library(session: AsyncSession) -> None:
    """Its constructor is trusted with columns; other objects are inserted in bulk.

    Fails without `_EMPTY` in `constructed`.
    """

    class Base(DeclarativeBase, metaclass=Marked):
        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                setattr(self, name, value)
            if isinstance(self, Made):
                self.parts = [Part(word="x")]

    class Made(Base):
        __tablename__ = "made"
        name: Mapped[str] = mapped_column(primary_key=True)
        parts: Mapped[list["Part"]] = relationship()

    class Part(Base):
        __tablename__ = "made_part"
        word: Mapped[str] = mapped_column(primary_key=True)
        owner: Mapped[str] = mapped_column(sa.ForeignKey("made.name"), primary_key=True)

    await create_tables(session, Made)
    await get_or_create_many(session, Made, ["a", "b"], key="name")
    assert set(await session.scalars(sa.select(Part.owner))) == {"a", "b"}
