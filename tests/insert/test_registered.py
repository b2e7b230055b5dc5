"""A native row that its session takes over without a flush, in odd applications."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from backends import on_postgres
from models import Tag
from rivals import after_rival
from sqlalchemy import String, TypeDecorator, event, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from async_goc import Policy, get_or_create

NATIVE = Policy(strategy="native")
pytestmark = pytest.mark.one_driver


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


@on_postgres
@pytest.mark.parametrize("is_lost", [False, True])
async def test_init_adds_the_object(
    engine: AsyncEngine, session: AsyncSession, *, is_lost: bool
) -> None:
    """A listener to `init` may add each new object to the session.

    Fails without `session_id` in `may_skip_pending`.
    """

    def add(target: Tag, *_: object) -> None:
        if session.in_transaction():  # The rival's object is another session's.
            session.add(target)

    defaults = after_rival(engine, Tag(name="x")) if is_lost else {}
    event.listen(Tag, "init", add)
    try:
        tag, created = await get_or_create(
            session, Tag, name="x", defaults=defaults, policy=NATIVE
        )
    finally:
        event.remove(Tag, "init", add)
    assert created is not is_lost
    assert inspect(tag).persistent
    assert not session.new
    await session.commit()
    assert await session.scalar(select(func.count(Tag.id))) == 1


class _Code:
    """A value that compares with its like alone."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        text: str = vars(other)["text"]
        return self.text == text

    def __hash__(self) -> int:
        return hash(self.text)


class _Codes(TypeDecorator[_Code]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> Any:
        return value and value.text

    def process_result_value(self, value: Any, _: object) -> Any:
        return value and _Code(value)


class _Base(DeclarativeBase):
    type_annotation_map = {_Code: _Codes}  # noqa: RUF012


class _Coded(_Base):
    __tablename__ = "coded_key"
    code: Mapped[_Code] = mapped_column(primary_key=True)


async def test_keys_of_an_own_type(session: AsyncSession) -> None:
    """The values of a key need not compare with anything else.

    Fails without `_NULL` in `_register`.
    """
    connection = await session.connection()
    await connection.run_sync(_Base.metadata.create_all)
    coded, created = await get_or_create(
        session, _Coded, code=_Code("x"), policy=NATIVE
    )
    assert created
    assert inspect(coded).persistent
    await session.rollback()


class _Stamping(Session):
    """Changes each object that is added."""

    def add(self, instance: Any, _warn: bool = True) -> None:  # noqa: FBT002
        instance.colour = "green"
        super().add(instance, _warn=_warn)


async def test_session_with_an_add_of_its_own(engine: AsyncEngine) -> None:
    """A native row is added by it, as a flushed one is.

    Fails without `add` in `may_skip_pending`.
    """
    async with AsyncSession(engine, sync_session_class=_Stamping) as session:
        tag, _ = await get_or_create(session, Tag, name="x", policy=NATIVE)
        assert tag.colour == "green"
        assert await session.scalar(select(Tag.colour)) == "green"
