"""Columns of all kinds, for rows that are inserted without a flush."""

import enum
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Computed,
    DateTime,
    Enum,
    ForeignKey,
    Integer,
    Sequence,
    String,
    TypeDecorator,
    column,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    relationship,
)


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


class Blank(TypeDecorator[str]):
    """Stores nothing as something."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: object) -> str:
        return value or ""

    def process_result_value(self, value: str | None, _: object) -> str | None:
        return value or None


class Bracketed(TypeDecorator[str]):
    """Stored through SQL, which has no place in an array."""

    impl = String
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return func.concat("[", bindparam, "]")


class Chosen(TypeDecorator[Any]):
    """An array where the database has them, and text elsewhere."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        is_array = dialect.name == "postgresql"
        return dialect.type_descriptor(ARRAY(String) if is_array else String())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value if dialect.name == "postgresql" else str(value)


class Clause:
    """What the ORM takes for an SQL expression."""

    def __clause_element__(self) -> object:
        return func.upper("made")


def copied(context: Any) -> str:
    """A default that reads another value, which may not have been given."""
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
