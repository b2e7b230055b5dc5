"""Classes of more than one kind of row: inheritance, dataclasses, constructors."""

from typing import Any

from sqlalchemy import (
    ForeignKey,
)
from sqlalchemy.orm import (
    Mapped,
    MappedAsDataclass,
    mapped_column,
)

from .base import Base


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
