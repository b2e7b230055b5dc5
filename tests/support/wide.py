"""More of them: types that have arrays, and types that have none."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from odd import Base, Bracketed, Chosen, Colour, Reversed
from sqlalchemy import (
    CHAR,
    JSON,
    BigInteger,
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
)
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT, HSTORE, INET, JSONB
from sqlalchemy.orm import Mapped, column_property, mapped_column


def copied(context: Any) -> str:
    return f"copy of {context.get_current_parameters()['word']}"


class Wide(Base):
    """Columns of all kinds; an array takes them, or one of them forbids it."""

    __tablename__ = "wide"

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
    __tablename__ = "copied"

    id: Mapped[int] = mapped_column(Sequence("bulk_numbers"), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    word: Mapped[str | None]
    copy: Mapped[str] = mapped_column(default=copied)
    at: Mapped[int] = mapped_column(default=int)
    made: Mapped[Any] = mapped_column(JSON, default=lambda: {"x": 1}, nullable=True)


class Keys(Base):
    """Keys that travel as ordinary parameters, on one database or the other."""

    __tablename__ = "keys"
    __table_args__ = (UniqueConstraint("fraction", "padded"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    padded: Mapped[str | None] = mapped_column(CHAR(4), unique=True)
    fraction: Mapped[float | None] = mapped_column(Float)
    data: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    document: Mapped[Any] = mapped_column(JSON, nullable=True)
    bracketed: Mapped[str | None] = mapped_column(String)


class Arrays(Base):
    """What only PostgreSQL has."""

    __tablename__ = "arrays"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(CITEXT().with_variant(String(), "sqlite"))
    items: Mapped[Any] = mapped_column(ARRAY(String).with_variant(String(), "sqlite"))
    wrapped: Mapped[str | None] = mapped_column(Bracketed())
    varied: Mapped[Any] = mapped_column(
        String().with_variant(ARRAY(String), "postgresql"), nullable=True
    )
    __table_args__ = (UniqueConstraint("name"),)


class Host(Base):
    """A string, except where the database has a type for it that no other has."""

    __tablename__ = "host"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    address: Mapped[Any] = mapped_column(String().with_variant(INET(), "postgresql"))


class Spelled(Base):
    """Keys that can be spelled in several ways."""

    __tablename__ = "spelled"

    id: Mapped[int] = mapped_column(primary_key=True)
    mail: Mapped[str | None] = mapped_column(
        CITEXT().with_variant(String(), "sqlite"), unique=True
    )
    document: Mapped[Any] = mapped_column(
        JSONB().with_variant(JSON(), "sqlite"), unique=True, nullable=True
    )
    pairs: Mapped[Any] = mapped_column(
        HSTORE().with_variant(JSON(), "sqlite"), unique=True, nullable=True
    )
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2), unique=True)


class Wrapped(Base):
    """A string that is stored through SQL."""

    __tablename__ = "wrapped"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    text: Mapped[str] = mapped_column(Bracketed())


class Listed(Base):
    """Values that are lists, of which an array would make dimensions."""

    __tablename__ = "listed"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    document: Mapped[Any] = mapped_column(JSON)
    pickled: Mapped[Any] = mapped_column(PickleType)


class ChosenList(Base):
    __tablename__ = "chosen"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    items: Mapped[Any] = mapped_column(Chosen)


class Beast(Base):
    __tablename__ = "beast"
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
