"""Values whose comparison has no truth value, and a type that compares differently."""

from typing import Any

from sqlalchemy import JSON, PickleType, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Vector(list[Any]):
    """Compares as an array of NumPy's does."""

    def __eq__(self, other: object) -> Any:
        others = other if isinstance(other, list) else [other] * len(self)
        return Vector(a == b for a, b in zip(self, others, strict=False))

    def __ne__(self, other: object) -> Any:
        return Vector(not same for same in self == other)

    def __bool__(self) -> bool:
        msg = "the truth value of an array is ambiguous"
        raise ValueError(msg)

    __hash__ = None  # type: ignore[assignment]


class Vectors(TypeDecorator[Vector]):
    """Compares by the value alone."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> Any:
        return None if value is None else list(value)

    def process_result_value(self, value: Any, _: object) -> Any:
        return None if value is None else Vector(value)


class Caseless(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def compare_values(self, x: Any, y: Any) -> bool:
        return bool(x.lower() == y.lower())


class Vague(Base):
    __tablename__ = "vague"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    pickled: Mapped[Any] = mapped_column(PickleType, nullable=True)
    vector: Mapped[Any] = mapped_column(Vectors, nullable=True)
    text: Mapped[str | None] = mapped_column(String, unique=True)
    word: Mapped[str | None] = mapped_column(Caseless, unique=True)
