"""Columns of all kinds: trees, documents, counters, composites, types, keys."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    column_property,
    composite,
    mapped_column,
    relationship,
    validates,
)

from .base import Base
from .library import Author


class Node(Base):
    """A tree; names are stored in lower case."""

    __tablename__ = "node"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list["Node"]] = relationship()

    @validates("name")
    def lower(self, _: str, name: str) -> str:
        return name.lower()


class Setting(Base):
    """JSON, and a name of ours."""

    __tablename__ = "setting"

    id: Mapped[int] = mapped_column(primary_key=True)
    function: Mapped[str]
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON())


class Page(Base):
    """What several count on at once."""

    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    slug: Mapped[str | None] = mapped_column(unique=True)
    views: Mapped[int] = mapped_column(default=0)
    likes: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    text: Mapped[str | None]
    changes: Mapped[int] = mapped_column(default=0, onupdate=text("changes + 1"))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(lazy="joined")


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Place(Base):
    """Hybrids, composites, properties, expressions; a name of one of our parameters."""

    __tablename__ = "place"
    __table_args__ = (
        UniqueConstraint("x", "y"),
        Index("uq_place_email", func.lower(text("email")), unique=True),
        Index(
            "uq_place_code",
            "code",
            unique=True,
            postgresql_where=text("closed_at IS NULL"),
            sqlite_where=text("closed_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int] = mapped_column(default=0)
    email: Mapped[str | None]
    code: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    options: Mapped[str | None] = mapped_column("opts", unique=True)
    point: Mapped[Point] = composite("x", "y")
    colour = "red"

    @hybrid_property
    def lower_email(self) -> str:
        return (self.email or "").lower()

    @lower_email.inplace.expression
    @classmethod
    def _lower_email(cls) -> ColumnElement[str]:
        return func.lower(cls.email)

    @hybrid_property
    def settings(self) -> str | None:
        return self.options

    @settings.inplace.setter
    def _set_settings(self, value: str | None) -> None:
        self.options = value

    @property
    def where(self) -> str:
        return f"{self.x}/{self.y}"

    @where.setter
    def where(self, value: str) -> None:
        self.x, self.y = map(int, value.split("/"))

    @property
    def area(self) -> int:
        return self.x * self.y


Place.distance = column_property(Place.x + Place.y)


class Region(Base):
    """A composite primary key, in an order of its own."""

    __tablename__ = "region"

    country: Mapped[str] = mapped_column(String(2), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


class City(Base):
    """A composite foreign key; one with a condition in its join; one to no key."""

    __tablename__ = "city"
    __table_args__ = (UniqueConstraint("country", "region_number", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str | None]
    region_number: Mapped[int | None]
    region: Mapped[Region | None] = relationship(
        primaryjoin="and_(foreign(City.region_number) == Region.number,"
        " foreign(City.country) == Region.country)",
    )
    first_region: Mapped[Region | None] = relationship(
        primaryjoin="and_(foreign(City.country) == Region.country, Region.number == 1)",
        overlaps="region",
    )
    mayor_name: Mapped[str | None] = mapped_column(ForeignKey("author.name"))
    mayor: Mapped[Author | None] = relationship()
    seen_region: Mapped[Region | None] = relationship(
        primaryjoin="foreign(City.region_number) == Region.number", viewonly=True
    )


class Loose(Base):
    """Server-made values that are not fetched with the INSERT."""

    __tablename__ = "loose"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Unnamed(Base):
    """A key that may be NULL, and that the server fills where nothing is given."""

    __tablename__ = "unnamed"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True, server_default="nobody")


class Shouted(TypeDecorator[str]):
    """A type that compares in a way of its own."""

    impl = String
    cache_ok = True

    class comparator_factory(String.Comparator[str]):  # noqa: N801
        def __eq__(self, other: object) -> Any:
            return self.expr.op("=")(other.upper())

        __hash__ = None


class Shout(Base):
    __tablename__ = "shout"

    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(Shouted, unique=True)
