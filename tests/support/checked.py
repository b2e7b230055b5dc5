"""Models that are unsafe in every way, and the tables that a database has of them."""

import os
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    text,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex

# They have no index on an expression.
INNODB = {"mysql", "mariadb"}


class Base(DeclarativeBase):
    """What the program believes."""


# What is found of them, wherever it is.
FOUND = {
    ("missing-in-database", "Lost"),
    ("duplicates", "Lost"),
    ("missing-in-database", "Newer"),
    ("missing-in-database", "Missing"),
    ("missing-in-model", "Narrow"),
    ("no-unique-key", "Mail"),
    ("nullable-key", "Seat"),
    ("deferrable", "Slot"),
    ("no-unique-key", "Entry"),
    ("no-unique-key", "log"),
}
# And where the database has what it takes.
NOT_NATIVE = {("not-native", name) for name in ("Slot", "Counted", "Alarm")}
FOLDED = {("case-insensitive", "Mail")}


class Sound(Base):
    """As it ought to be: nothing is found."""

    __tablename__ = "sound"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)
    colour: Mapped[str] = mapped_column(String(20))
    deleted: Mapped[int | None]
    __table_args__ = (
        Index(
            "one_colour",
            "colour",
            unique=True,
            postgresql_where=text("deleted IS NULL"),
            sqlite_where=text("deleted IS NULL"),
        ),
    )


class Lost(Base):
    """A migration has dropped its constraint, and rows came twice."""

    __tablename__ = "lost"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)


class Newer(Base):
    """The constraint of a column that is not there yet."""

    __tablename__ = "newer"

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(20), unique=True)


class Missing(Base):
    __tablename__ = "missing"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)


class Narrow(Base):
    """The database has a constraint that the model does not know."""

    __tablename__ = "narrow"

    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    serial: Mapped[int]


class Mail(Base):
    """And here one on an expression."""

    __tablename__ = "mail"

    id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(String(20))


class Seat(Base):
    """NULLs never conflict."""

    __tablename__ = "seat"

    id: Mapped[int] = mapped_column(primary_key=True)
    hall: Mapped[str | None] = mapped_column(String(20))
    number: Mapped[int]
    __table_args__ = (UniqueConstraint("hall", "number"),)


class Slot(Base):
    """Checked at COMMIT."""

    __tablename__ = "slot"

    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[int]
    __table_args__ = (UniqueConstraint("place", deferrable=True),)


class Counted(Base):
    """Only a flush can insert it."""

    __tablename__ = "counted"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Entry(Base):
    """Nothing identifies a row; nor does anything of the class that inherits it."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "entry",
    }


class Alarm(Entry):
    __tablename__ = "alarm"

    id: Mapped[int] = mapped_column(ForeignKey(Entry.id), primary_key=True)
    level: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "alarm"}  # noqa: RUF012


class Fire(Alarm):
    """In its parent's table, and like it in all that is found."""

    __mapper_args__ = {"polymorphic_identity": "fire"}  # noqa: RUF012


log = Table("log", Base.metadata, Column("line", String(20)))

# What the database has.
there = MetaData()


def has(name: str, *parts: Any) -> Table:
    return Table(name, there, *parts)


def is_checked_at_once(*_: object, dialect: Dialect, **__: object) -> bool:
    return dialect.name != "postgresql"


def key() -> Any:
    return Column("id", Integer, primary_key=True)


Sound.__table__.to_metadata(there)
lost = has("lost", key(), Column("name", String(20), nullable=False))
has("newer", key())
has(
    "narrow",
    Column("code", String(20), primary_key=True),
    Column("serial", Integer, unique=True),
)
mail = has("mail", key(), Column("address", String(20)))
one_address = Index("one_address", func.lower(mail.c.address), unique=True)
mail.indexes.clear()
Seat.__table__.to_metadata(there)
has(
    "slot",
    key(),
    Column("place", Integer, nullable=False),
    UniqueConstraint("place", deferrable=True).ddl_if("postgresql"),
    UniqueConstraint("place").ddl_if(callable_=is_checked_at_once),
)
Counted.__table__.to_metadata(there)
Entry.__table__.to_metadata(there)
Alarm.__table__.to_metadata(there)
log.to_metadata(there)


def make(connection: Connection) -> None:
    """Create what the database has, and the rows that came twice."""
    there.create_all(connection)
    if connection.dialect.name not in INNODB:
        connection.execute(CreateIndex(one_address))
    rows = [{"name": name} for name in ("a", "a", "a", "b", "b", "c")]
    connection.execute(insert(lost), rows)


# What a program has beside its models, and a command line may name.
if "CHECKED_URL" in os.environ:
    engine = create_async_engine(os.environ["CHECKED_URL"])
