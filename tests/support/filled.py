"""Columns that something fills where a row has no value for them."""

from dataclasses import dataclass
from typing import Any

from odd import Blank
from sqlalchemy import JSON, Computed, ForeignKey, UniqueConstraint, func, text
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    composite,
    mapped_column,
    relationship,
    synonym,
    validates,
)


class Base(DeclarativeBase):
    pass


@dataclass(frozen=True)
class Span:
    start: int | None
    end: int | None


class Owner(Base):
    __tablename__ = "filled_owner"

    id: Mapped[int] = mapped_column(primary_key=True)


class Filled(Base):
    """One column for each thing that may replace None."""

    __tablename__ = "filled"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    scalar: Mapped[str | None] = mapped_column(default="main")
    called: Mapped[str | None] = mapped_column("calls", insert_default=lambda: "main")
    by_sql: Mapped[str | None] = mapped_column(default=func.lower("MAIN"))
    by_server: Mapped[str | None] = mapped_column(server_default="main")
    both: Mapped[str | None] = mapped_column(default="x", server_default=text("'y'"))
    changing: Mapped[str | None] = mapped_column(default="x", onupdate="y")
    blank: Mapped[str | None] = mapped_column(Blank)
    json: Mapped[Any] = mapped_column(JSON, default=lambda: {"x": 1}, nullable=True)
    mutable: Mapped[Any] = mapped_column(MutableDict.as_mutable(JSON()), nullable=True)
    start: Mapped[int | None] = mapped_column(default=1)
    end: Mapped[int | None] = mapped_column(server_default="2")
    span: Mapped[Span] = composite("start", "end")
    checked: Mapped[str | None] = mapped_column(default="main")
    other_name: Mapped[str | None] = synonym("scalar")
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("filled_owner.id"), default=1
    )
    owner: Mapped[Owner | None] = relationship()
    needed: Mapped[int] = mapped_column(default=1)
    needed_by_server: Mapped[int] = mapped_column(server_default="1")

    @hybrid_property
    def by_hybrid(self) -> str | None:
        return self.called

    @by_hybrid.inplace.setter
    def _set_by_hybrid(self, value: str | None) -> None:
        self.called = value

    @validates("checked")
    def check(self, _: str, value: str | None) -> str | None:
        return value and value.lower()


class FilledData(MappedAsDataclass, Base):
    """A dataclass, whose constructor fills what it is not given."""

    __tablename__ = "filled_data"
    __table_args__ = (UniqueConstraint("name", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str]
    kind: Mapped[str | None] = mapped_column(default="main")
    late: Mapped[str | None] = mapped_column(default="main", init=False)
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("filled_owner.id"), default=1
    )
    owner: Mapped[Owner | None] = relationship(default=None)


class FilledOnce(Base):
    """NULLs conflict here, where the database can have that."""

    __tablename__ = "filled_once"
    __table_args__ = (UniqueConstraint("level", postgresql_nulls_not_distinct=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[int | None] = mapped_column(default=1)


class Generated(Base):
    """Columns that the database computes."""

    __tablename__ = "generated"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    number: Mapped[int] = mapped_column(default=0)
    slug: Mapped[str] = mapped_column(Computed("lower(name)", persisted=True))
    other_slug: Mapped[str] = synonym("slug")
    end: Mapped[int] = mapped_column(Computed("number + 1", persisted=True))
    span: Mapped[Span] = composite("number", "end")
    owner_id: Mapped[int] = mapped_column(
        ForeignKey("filled_owner.id"), Computed("number + 1", persisted=True)
    )
    owner: Mapped[Owner] = relationship()
    __table_args__ = (UniqueConstraint("slug"),)
