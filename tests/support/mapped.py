"""Models that differ from a plain one in one thing each."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from odd import Blank, Colour, Reversed
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.ext.mutable import MutableDict, MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    composite,
    mapped_column,
    query_expression,
    reconstructor,
    registry,
    relationship,
    validates,
)
from sqlmodel import Field, SQLModel

# Of relationships that a SELECT of the model leaves alone, and of the others.
LAZY = ["select", "raise", "raise_on_sql", "write_only", "dynamic"]
EAGER = ["joined", "selectin", "subquery", "immediate"]


class Base(DeclarativeBase):
    pass


class Data(MappedAsDataclass, DeclarativeBase):
    metadata = Base.metadata


class Plain(Base):
    """What each of the others has, too."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None]


class Thing(Base):
    __tablename__ = "mapped_thing"

    id: Mapped[int] = mapped_column(primary_key=True)


def _model(name: str, base: type[Any] = Plain, **attributes: Any) -> type[Any]:
    table = f"mapped_{name.lower()}"
    return type(name, (base,), {"__tablename__": table, **attributes})


def _one_to_many(lazy: Any) -> type[Any]:
    owner = mapped_column(sa.ForeignKey(f"mapped_whole_{lazy}.id"))
    key = mapped_column(sa.Integer, primary_key=True)
    part = _model(f"Part_{lazy}", Base, id=key, whole_id=owner)
    return _model(f"Whole_{lazy}", parts=relationship(part, lazy=lazy))


def _many_to_one(lazy: Any) -> type[Any]:
    thing_id = mapped_column(sa.ForeignKey(Thing.id))
    thing = relationship(Thing, lazy=lazy)
    return _model(f"Member_{lazy}", thing_id=thing_id, thing=thing)


class Versioned(Plain):
    __tablename__ = "mapped_versioned"

    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Numbered(Base):
    """Its key is a number that the database alone makes."""

    __tablename__ = "mapped_numbered"

    id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None]


class Named(Base):
    """Its key is the name."""

    __tablename__ = "mapped_named"

    name: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int | None]


class Renamed(Base):
    """Attributes that are named unlike their columns."""

    __tablename__ = "mapped_renamed"

    id: Mapped[int] = mapped_column("own_id", primary_key=True)
    name: Mapped[str] = mapped_column("size", unique=True)
    size: Mapped[int | None] = mapped_column("name")


class Quoted(Base):
    """Names that have to be quoted, and that no keyword argument has."""

    __tablename__ = "mapped quoted"

    id: Mapped[int] = mapped_column("an own_id", primary_key=True)
    name: Mapped[str] = mapped_column("SELECT", unique=True)
    size: Mapped[int | None] = mapped_column("a size")


class Deferred(Plain):
    __tablename__ = "mapped_deferred"

    name: Mapped[str] = mapped_column(unique=True, deferred=True)
    size: Mapped[int | None] = mapped_column(deferred=True, deferred_raiseload=True)
    level: Mapped[int] = mapped_column(server_default="7", deferred=True)


class Served(Plain):
    """Values that the database makes."""

    __tablename__ = "mapped_served"

    level: Mapped[int] = mapped_column(server_default="7")
    area: Mapped[int] = mapped_column(sa.Computed("level * 2", persisted=True))
    shade: Mapped[str] = mapped_column(default=sa.func.lower("DARK"))


class Late(Plain):
    """They are not fetched with the INSERT."""

    __tablename__ = "mapped_late"

    level: Mapped[int] = mapped_column(server_default="7")
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012


class Counted(Plain):
    """Values that Python makes."""

    __tablename__ = "mapped_counted"

    level: Mapped[int] = mapped_column(default=7)
    places: Mapped[Any] = mapped_column(sa.PickleType, default=dict)
    changes: Mapped[int] = mapped_column(default=lambda: 0, onupdate=1)


class Valued(Plain):
    """Columns that store another value than they are given, or return another."""

    __tablename__ = "mapped_valued"

    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    fraction: Mapped[float | None]
    colour: Mapped[Colour | None]
    at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    word: Mapped[str | None] = mapped_column(Reversed)
    blank: Mapped[str | None] = mapped_column(Blank)
    data: Mapped[bytes | None]
    document: Mapped[Any] = mapped_column(sa.JSON, nullable=True)
    is_on: Mapped[bool | None]
    level: Mapped[int | None] = mapped_column(default=3)
    kind: Mapped[int] = mapped_column(server_default="7")
    shade: Mapped[str] = mapped_column(default=sa.func.lower("DARK"))
    keyed: Mapped[str | None] = mapped_column("a", key="b")


class Mutable(Plain):
    __tablename__ = "mapped_mutable"

    data: Mapped[Any] = mapped_column(MutableDict.as_mutable(sa.JSON()), default=dict)
    items: Mapped[Any] = mapped_column(
        MutableList.as_mutable(sa.PickleType()), default=lambda: [1]
    )


class Calculated(Plain):
    __tablename__ = "mapped_calculated"

    level: Mapped[int] = mapped_column(default=3)
    double = column_property(2 * level)
    given = query_expression()


class Composed(Plain):
    __tablename__ = "mapped_composed"

    level: Mapped[int] = mapped_column(default=3)
    both = composite(lambda size, level: (size, level), "size", "level")


class Checked(Plain):
    __tablename__ = "mapped_checked"

    @validates("name", "size")
    def check(self, _: str, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


class Built(Plain):
    """A constructor of its own."""

    __tablename__ = "mapped_built"

    def __init__(self, name: str, size: int | None = None) -> None:
        self.name, self.size = name, (size or 0) + 1


class Loaded(Plain):
    """Hears of its loading."""

    __tablename__ = "mapped_loaded"

    @reconstructor
    def load(self) -> None:
        self.seen = True


class Set(Plain):
    """Hears of each attribute that is set."""

    __tablename__ = "mapped_set"

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, 8 if name == "size" else value)


class Falsy(Plain):
    """Equal to anything, and never true."""

    __tablename__ = "mapped_falsy"

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Plain.__hash__


class Box(Data):
    __tablename__ = "mapped_box"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None] = mapped_column(default=3)
    level: Mapped[int] = mapped_column(default=1, init=False)
    tags: Mapped[Any] = mapped_column(sa.PickleType, default_factory=list)


class PostBox(Data):
    __tablename__ = "mapped_post_box"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None] = mapped_column(default=3)

    def __post_init__(self) -> None:
        self.size = 8


class Row(SQLModel, registry=registry(metadata=Base.metadata)):
    metadata = Base.metadata


class Hero(Row, table=True):
    __tablename__ = "mapped_hero"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    size: int | None = 3
    tags: Any = Field(default_factory=list, sa_type=sa.PickleType)


class Bare:
    """Mapped without a declaration."""


registry(metadata=Base.metadata).map_imperatively(
    Bare, Plain.metadata.tables["mapped_named"]
)


class Pet(Plain):
    __tablename__ = "mapped_pet"

    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}  # noqa: RUF012


class Bird(Pet):
    wings: Mapped[int | None] = mapped_column(default=2)
    __mapper_args__ = {"polymorphic_identity": "bird"}  # noqa: RUF012


class Fish(Pet):
    __tablename__ = "mapped_fish"

    id: Mapped[int] = mapped_column(sa.ForeignKey(Pet.id), primary_key=True)
    fins: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "fish"}  # noqa: RUF012


class Ship(ConcreteBase, Plain):
    __tablename__ = "mapped_ship"
    __mapper_args__ = {"polymorphic_identity": "ship", "concrete": True}  # noqa: RUF012


class Ferry(Ship):
    __tablename__ = "mapped_ferry"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "ferry", "concrete": True}  # noqa: RUF012


# Those whose rows are found, and inserted, past SQLAlchemy.
DIRECT: list[type[Any]] = [
    *map(_one_to_many, LAZY),
    *map(_many_to_one, LAZY[:3]),
    *(Named, Renamed, Bare, Box, Hero, Falsy, Numbered, Served, Late, Counted),
]
# Those whose rows are found past it.
FOUND: list[type[Any]] = [Set, Built, PostBox, Versioned]
# Those that need it for everything.
OTHERS: list[type[Any]] = [
    *map(_one_to_many, EAGER),
    *map(_many_to_one, EAGER),
    *(Deferred, Mutable, Calculated, Composed, Checked, Loaded),
    *(Pet, Bird, Fish, Ship, Ferry),
]
