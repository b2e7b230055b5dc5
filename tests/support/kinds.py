"""Types that store another value than they are given, and models for any type."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Doubled(sa.TypeDecorator[Any]):
    """Takes numbers and texts, and stores numbers."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> Any:
        return None if value is None else int(value) * 2

    def process_result_value(self, value: Any, _: object) -> Any:
        return None if value is None else value // 2


class Loud(sa.TypeDecorator[str]):
    """Comes back as another value's spelling."""

    impl = sa.String
    cache_ok = True

    def process_result_value(self, value: Any, _: object) -> Any:
        return None if value is None else value.upper()


class Loose(sa.TypeDecorator[Any]):
    """Stores values of several Python types in one column."""

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> Any:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: Any, _: object) -> Any:
        return None if value is None else json.loads(value)


class Lowered(sa.TypeDecorator[str]):
    """Stored through SQL."""

    impl = sa.String
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        return sa.func.lower(bindparam)


def models_of(type_: Any) -> tuple[type[Any], type[Any]]:
    """A model for one row, and one like it for many."""

    class Base(DeclarativeBase):
        pass

    class One(Base):
        __tablename__ = "one"
        id: Mapped[int] = mapped_column(primary_key=True)
        key: Mapped[Any] = mapped_column(type_, unique=True)
        value: Mapped[Any] = mapped_column(type_, nullable=True)
        word: Mapped[str | None]

    class Many(Base):
        __tablename__ = "many"
        id: Mapped[int] = mapped_column(primary_key=True)
        key: Mapped[Any] = mapped_column(type_, unique=True)
        value: Mapped[Any] = mapped_column(type_, nullable=True)
        word: Mapped[str | None]

    return One, Many
