"""Models whose constructors are generated, and what is made of them in each way."""

from dataclasses import InitVar
from typing import Any

import sqlalchemy as sa
from pydantic import field_validator
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
)
from sqlmodel import Field, SQLModel

from async_goc import Event, Policy, get_or_create, get_or_create_many


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Sized(MappedAsDataclass):
    size: Mapped[int | None] = mapped_column(default=3, kw_only=True)


class Box(Sized, Base):
    """What a dataclass may say of its fields."""

    __tablename__ = "made_box"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(init=False)
    level: Mapped[int] = mapped_column(default=1, init=False)
    tags: Mapped[Any] = mapped_column(sa.PickleType, default_factory=list)
    note: Mapped[str | None] = mapped_column(default=None)
    score: Mapped[int] = mapped_column(insert_default=7, init=False)
    rank: Mapped[int] = mapped_column(server_default="5", init=False)
    extra: InitVar[int] = 2
    things: Mapped[list["Thing"]] = relationship(default_factory=list)
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "box",
    }


class Crate(Box):
    weight: Mapped[int | None] = mapped_column(default=9)
    __mapper_args__ = {"polymorphic_identity": "crate"}  # noqa: RUF012


class Thing(Base):
    __tablename__ = "made_thing"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None]
    box_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("made_box.id"), default=None
    )


class Child(Base):
    """A parent that is absent; SQLAlchemy 2.0 then drops its key, and 2.1 does not."""

    __tablename__ = "made_child"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None] = mapped_column(
        sa.ForeignKey("made_thing.id"), default=None
    )
    thing: Mapped[Thing | None] = relationship(default=None)


class Bare(Base, init=False):
    """SQLAlchemy's own constructor."""

    __tablename__ = "made_bare"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None] = mapped_column(default=3)


class Table(SQLModel):
    metadata = sa.MetaData()
    size: int | None = 3

    @field_validator("size")
    @classmethod
    def refuse(cls, size: int) -> int:
        """It is not called: SQLModel does not validate the rows of tables."""
        raise ValueError(size)


class Hero(Table, table=True):
    __tablename__ = "made_hero"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    level: int = Field(default=1)
    note: str | None = None
    tags: Any = Field(default_factory=list, sa_type=sa.PickleType)
    rank: int = Field(default=None, sa_column_kwargs={"server_default": "5"})

    def __repr__(self) -> str:
        return self.name


class Strict(Table, table=True):
    __tablename__ = "made_strict"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    level: int


async def create_tables(session: AsyncSession, model: type[Any]) -> None:
    connection = await session.connection()
    await connection.run_sync(model.metadata.create_all)


def told(row: Any) -> dict[str, Any]:
    """All that the object holds; an attribute that was never set is None, too."""
    held = {name: value for name, value in vars(row).items() if value is not None}
    del held["_sa_instance_state"]
    held.pop("id", None)
    assert not sa.inspect(row).expired_attributes
    assert not sa.inspect(row).modified
    return held


async def create(
    session: AsyncSession, model: type[Any], rows: list[dict[str, Any]], way: str
) -> tuple[list[Any], set[str]]:
    """Create the rows in one of three ways; return what is there, and how it came."""
    events: list[Event] = []
    strategy: Any = "native" if way == "native" else "savepoint"
    policy = Policy(strategy=strategy, observer=events.append)
    outer = await session.begin_nested()
    if way == "bulk":
        made = await get_or_create_many(session, model, rows, key="name", policy=policy)
    else:
        made = [
            await get_or_create(
                session,
                model,
                name=row["name"],
                defaults={name: row[name] for name in row if name != "name"},
                policy=policy,
            )
            for row in rows
        ]
    assert {created for _, created in made} == {True}
    table = model.__table__
    names = [c for c in table.c if c.name != "id"]
    stored = await session.execute(sa.select(*names).order_by(table.c.name))
    result = [*[(type(row), told(row)) for row, _ in made], *stored]
    await outer.rollback()
    session.expunge_all()
    return result, {event.strategy for event in events}
