"""Models whose keys change without being set, and rows that go without a word."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import words
from sqlalchemy import (
    JSON,
    ColumnElement,
    Computed,
    ForeignKey,
    TypeDecorator,
    event,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    foreign,
    mapped_column,
    relationship,
    validates,
)
from words import Base

ANY_JSON = JSON().with_variant(JSONB(), "postgresql")


class Owner(Base):
    """A parent in every way that may change a child behind its back."""

    __tablename__ = "slippery_owner"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    loose: Mapped[list["Loose"]] = relationship(
        primaryjoin=lambda: Owner.id == foreign(Loose.owner_id)
    )
    parts: Mapped[list["Part"]] = relationship(cascade="all, delete-orphan")
    pages: Mapped[list["Page"]] = relationship(passive_deletes=True)
    links: Mapped[list["Page"]] = relationship(secondary="slippery_link")


class Region(Base):
    """Its code is its key, and may change."""

    __tablename__ = "slippery_region"

    code: Mapped[str] = mapped_column(primary_key=True)


class Town(Base):
    """Refers to its region by a code that the database changes with the region's."""

    __tablename__ = "slippery_town"

    id: Mapped[int] = mapped_column(primary_key=True)
    # Without a relationship, the session knows nothing of it.
    region_code: Mapped[str] = mapped_column(
        ForeignKey(Region.code, onupdate="cascade"), unique=True
    )


class Loose(Base):
    """Refers to its owner without a constraint."""

    __tablename__ = "slippery_loose"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(unique=True)
    owner: Mapped[Owner | None] = relationship(
        primaryjoin=lambda: Owner.id == foreign(Loose.owner_id), overlaps="loose"
    )


class Part(Base):
    """Goes when its owner lets go of it."""

    __tablename__ = "slippery_part"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("slippery_owner.id"))


class Page(Base):
    """Goes with its owner; the database sees to that."""

    __tablename__ = "slippery_page"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    owner_id: Mapped[int | None] = mapped_column(
        ForeignKey("slippery_owner.id", ondelete="CASCADE")
    )
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("slippery_shelf.id"))


class Other(DeclarativeBase):
    """A registry of its own."""

    metadata = Base.metadata


class Shelf(Other):
    __tablename__ = "slippery_shelf"

    id: Mapped[int] = mapped_column(primary_key=True)
    pages: Mapped[list[Page]] = relationship(Page)


class Link(Base):
    """A row that a many-to-many relationship deletes, too."""

    __tablename__ = "slippery_link"

    owner_id: Mapped[int] = mapped_column(
        ForeignKey("slippery_owner.id"), primary_key=True
    )
    page_id: Mapped[int] = mapped_column(
        ForeignKey("slippery_page.id"), primary_key=True
    )


class Made(Base):
    """Keys that the database, a default, a counter or a listener makes."""

    __tablename__ = "slippery_made"

    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(default=1)
    version: Mapped[int] = mapped_column()
    double: Mapped[int] = mapped_column(Computed("size * 2"))
    state: Mapped[str] = mapped_column(default="new", onupdate="old")
    title: Mapped[str | None]
    slug: Mapped[str | None]
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Kind(Base):
    __tablename__ = "slippery_kind"
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "kind",
    }

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)


class Special(Kind):
    __mapper_args__ = {"polymorphic_identity": "special"}  # noqa: RUF012


class Ship(ConcreteBase, Base):
    """Concrete: the subclass has a table of its own."""

    __tablename__ = "slippery_ship"
    __mapper_args__ = {"polymorphic_identity": "ship", "concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Ferry(Ship):
    __tablename__ = "slippery_ferry"
    __mapper_args__ = {"polymorphic_identity": "ferry", "concrete": True}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Tuples(TypeDecorator[Any]):
    """Documents that do not change, since their lists are tuples."""

    impl = ANY_JSON
    cache_ok = True

    def process_result_value(self, value: Any, _: object) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Paper(Base):
    """A document for a key, which the database compares, and Python does not."""

    __tablename__ = "slippery_paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    doc: Mapped[Any] = mapped_column(Tuples, unique=True)


class Lowered(Base):
    """Stores another name than it is given."""

    __tablename__ = "slippery_lowered"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    @validates("name")
    def lower(self, _: str, name: str) -> str:
        return name.lower()

    @hybrid_property
    def label(self) -> str:
        return self.name


class Current(Base):
    """Found while its time has not come."""

    __tablename__ = "slippery_current"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    @classmethod
    def unique_filter(cls, *, name: str) -> list[ColumnElement[bool]]:
        return [cls.name == name, func.current_timestamp().is_not(None)]


class Visible(Base):
    """Mapped to a SELECT, which has a condition of its own."""

    __table__ = select(words.Word.__table__).where(words.Word.note.is_(None)).subquery()
    __mapper_args__ = {"primary_key": [__table__.c.id]}  # noqa: RUF012


class Hashed(Base):
    """Has a hash and a filter of its own, which tests replace."""

    __tablename__ = "slippery_hashed"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    @classmethod
    def unique_hash(cls, *, name: str, **_: Any) -> Hashable:
        return name.lower()

    @classmethod
    def unique_filter(cls, *, name: str, **_: Any) -> ColumnElement[bool]:
        return func.lower(cls.name) == name.lower()


@contextmanager
def listening(target: Any, name: str, listener: Any) -> Iterator[None]:
    event.listen(target, name, listener)
    yield
    event.remove(target, name, listener)
