"""Types of the caller's own are asked for no more than SQLAlchemy asks them."""

from typing import Any

from backends import by_savepoint, on_sqlite
from sqlalchemy import Column, Numeric, String, Text, TypeDecorator, event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import get_or_create


class Base(DeclarativeBase):
    pass


class Elsewhere(TypeDecorator[str]):
    """Knows the databases that it is used on, and no others."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Text())
        raise NotImplementedError(dialect.name)


class Strict(TypeDecorator[str]):
    """Compares with texts only."""

    impl = String
    cache_ok = True

    class comparator_factory(String.Comparator[str]):  # noqa: N801
        __hash__ = String.Comparator.__hash__

        def __eq__(self, other: object) -> Any:  # type: ignore[override]
            if not isinstance(other, str | Column):
                raise TypeError(other)
            return super().__eq__(other)


class Plain(TypeDecorator[str]):
    """Does nothing."""

    impl = String
    cache_ok = True


class Own(Base):
    __tablename__ = "own_types"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Elsewhere, unique=True)
    code: Mapped[str | None] = mapped_column(Strict, unique=True)
    tenant: Mapped[str | None] = mapped_column(Plain)
    price: Mapped[Any] = mapped_column(Numeric(10, 2), nullable=True)


@on_sqlite
@by_savepoint
async def test_types_of_the_callers_own(
    session: AsyncSession, statements: list[str]
) -> None:
    """They need not know PostgreSQL, nor compare with SQL; their None is no default.

    Fails without `Exception` in `_stored_type`, and without `_fills_in` in
    `_replaces_none`.
    """
    await (await session.connection()).run_sync(Base.metadata.create_all)
    seen: list[Any] = []
    event.listen(Own, "before_insert", lambda _m, _c, own: seen.append(own.tenant))
    statements.clear()
    for name, expected in (("a", True), ("a", False)):
        own, created = await get_or_create(session, Own, name=name, tenant=None)
        assert (own.tenant, created) == (None, expected)
    assert seen[0] is None
    assert statements.count("SELECT") == 2
    own, created = await get_or_create(session, Own, code="c", defaults={"name": "c"})
    assert (own.code, created) == ("c", True)
