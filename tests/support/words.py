"""Models that have `as_unique`: by a column, a parent, SQL, or a key of their own."""

from collections.abc import Hashable
from typing import Any

import models
from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    func,
    text as sql_text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    relationship,
)

from async_goc import UniqueMixin


class Base(UniqueMixin, DeclarativeBase):
    metadata = models.Base.metadata
    type_annotation_map = models.Base.type_annotation_map


class Word(Base):
    __tablename__ = "word"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str | None]
    forms: Mapped[list["Form"]] = relationship(back_populates="word")
    others: Mapped[list["Form"]] = relationship(overlaps="forms, word")

    def __bool__(self) -> bool:
        return False


class Form(Base):
    __tablename__ = "form"
    __table_args__ = (UniqueConstraint("word_id", "case"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    word_id: Mapped[int | None] = mapped_column(ForeignKey("word.id"))
    case: Mapped[str]
    word: Mapped[Word | None] = relationship(back_populates="forms", overlaps="others")


class User(Base):
    """Unique whatever the case of its address."""

    __tablename__ = "person_with_address"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str | None]

    @classmethod
    def unique_hash(cls, *, email: str, **_: Any) -> Hashable:
        return email.lower()

    @classmethod
    def unique_filter(cls, *, email: str, **_: Any) -> ColumnElement[bool]:
        return func.lower(cls.email) == email.lower()


Index("ix_address", func.lower(User.email), unique=True)


class Watched(Base):
    """Found by SQL of more than its columns."""

    __tablename__ = "watched"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)

    @hybrid_property
    def shout(self) -> str:
        return self.text.upper()

    @classmethod
    def unique_filter(cls, *, text: str, **_: Any) -> list[ColumnElement[bool]]:
        return [cls.text == text, sql_text("1 = 1")]


class Parts(TypeDecorator[Any]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> str | None:
        return "/".join(value)

    def process_result_value(self, value: str | None, _: object) -> Any:
        return value and value.split("/")


class Path(Base):
    __tablename__ = "path"

    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[Any] = mapped_column(Parts, unique=True)


class Alias(Base):
    """Stored in one case only."""

    __tablename__ = "alias"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    @classmethod
    def unique_filter(cls, *, name: str) -> list[ColumnElement[bool]]:
        return [cls.name == name.lower()]


async def ask(session: AsyncSession, text: str = "sun") -> Word:
    return await Word.as_unique(session, text=text)


async def ask_twice(session: AsyncSession, model: Any, **lookup: Any) -> Any:
    """Ask for a row, and again, so that it would be remembered."""
    await model.as_unique(session, **lookup)
    return await model.as_unique(session, **lookup)
