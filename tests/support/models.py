"""What the tests store: one class for each thing a mapping can be."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    WriteOnlyMapped,
    attribute_keyed_dict,
    collections,
    column_property,
    composite,
    mapped_column,
    relationship,
    synonym,
    validates,
)


class Base(DeclarativeBase):
    pass


class Tag(Base):
    """The plain case."""

    __tablename__ = "tag"
    __table_args__ = (CheckConstraint("colour <> 'bad'", name="good_colour"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    slug: Mapped[str | None] = mapped_column(unique=True)
    colour: Mapped[str | None]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    note: Mapped[str | None] = mapped_column(deferred=True)
    label: Mapped[str] = synonym("name")

    def __bool__(self) -> bool:
        return False


class Pile:
    """A collection class of one's own."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    @collections.collection.appender
    def put(self, item: Any) -> None:
        self.items.append(item)

    @collections.collection.remover
    def take(self, item: Any) -> None:
        self.items.remove(item)

    @collections.collection.iterator
    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    book_count: Mapped[int] = mapped_column(default=0)
    data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON()))
    books: Mapped[list["Book"]] = relationship(back_populates="author")
    pens: Mapped[dict[str, "Pen"]] = relationship(
        collection_class=attribute_keyed_dict("colour"), back_populates="author"
    )
    seat: Mapped["Seat | None"] = relationship(back_populates="author")
    notes: Mapped[Any] = relationship("Note", collection_class=Pile)
    letters: WriteOnlyMapped["Letter"] = relationship(back_populates="author")
    desk: Mapped["Desk | None"] = relationship(back_populates="author")
    titles: AssociationProxy[list[str]] = association_proxy("books", "title")


class Pen(Base):
    """A member of a keyed collection."""

    __tablename__ = "pen"
    __table_args__ = (UniqueConstraint("author_id", "colour"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    colour: Mapped[str]
    length: Mapped[int] = mapped_column(default=1)
    author: Mapped[Author | None] = relationship(back_populates="pens")


class Seat(Base):
    """The one-to-one side that may be left alone."""

    __tablename__ = "seat"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"), unique=True)
    author: Mapped[Author | None] = relationship(back_populates="seat")


class Note(Base):
    """A foreign key that is checked at COMMIT."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(
        ForeignKey("author.id", deferrable=True, initially="DEFERRED")
    )


class Letter(Base):
    """A member of a write-only collection."""

    __tablename__ = "letter"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="letters")


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


class Desk(Base):
    """The one-to-one side."""

    __tablename__ = "desk"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), unique=True)
    author: Mapped[Author] = relationship(back_populates="desk")


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (UniqueConstraint("author_id", "title", name="uq_book"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str]
    author: Mapped[Author] = relationship(back_populates="books")
    tags: Mapped[list[Tag]] = relationship(secondary="book_tag")
    reviews: Mapped[list["Review"]] = relationship(back_populates="book")
    nice_reviews: Mapped[list["Review"]] = relationship(
        primaryjoin="and_(Book.id == Review.book_id, Review.stars > 3)",
        viewonly=True,
    )


class BookTag(Base):
    __tablename__ = "book_tag"

    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), primary_key=True)


class Review(Base):
    """No unique constraint."""

    __tablename__ = "review"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))
    stars: Mapped[int]
    book: Mapped[Book | None] = relationship(back_populates="reviews")


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


class Animal(Base):
    """Single-table inheritance."""

    __tablename__ = "animal"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012

    lives: Mapped[int | None] = mapped_column(default=9)


class Person(Base):
    """Joined-table inheritance."""

    __tablename__ = "person"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)


class Employee(Person):
    __tablename__ = "employee"
    __mapper_args__ = {"polymorphic_identity": "employee"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    badge: Mapped[int] = mapped_column(unique=True)


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


class Badge(MappedAsDataclass, Base):
    """A dataclass, with a field that its constructor does not take."""

    __tablename__ = "badge"

    code: Mapped[str] = mapped_column(unique=True)
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    level: Mapped[int] = mapped_column(default=1, init=False)


class Ticket(Base):
    """A constructor of its own."""

    __tablename__ = "ticket"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    total: Mapped[int]

    def __init__(self, code: str, price: int = 1, *, count: int = 1) -> None:
        self.code = code
        self.total = price * count

    @classmethod
    def free(cls, **values: Any) -> "Ticket":
        return cls(values["code"], 0)


class Loose(Base):
    """Server-made values that are not fetched with the INSERT."""

    __tablename__ = "loose"
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())


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
