"""A library, and what belongs to its authors: relationships of all kinds."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    UniqueConstraint,
    func,
)
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    Mapped,
    WriteOnlyMapped,
    attribute_keyed_dict,
    collections,
    mapped_column,
    relationship,
    synonym,
)

from .base import Base


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
