"""Rows that need the unit of work are inserted by it, whatever the strategy."""

import logging
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from backends import on_postgres
from models import (
    Animal,
    Author,
    Employee,
    Node,
    Tag,
    Ticket,
)
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    event,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapper, Session, mapped_column

from async_goc import Event, Policy, get_or_create

pytestmark = pytest.mark.one_driver


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


async def strategy_of(session: AsyncSession, model: type[Any], **call: Any) -> str:
    """Create a row; say how."""
    events: list[Event] = []
    policy = Policy(
        strategy="native", missing_constraint="ignore", observer=events.append
    )
    _, created = await get_or_create(session, model, policy=policy, **call)
    assert created
    return events[0].strategy


class Base(DeclarativeBase):
    metadata = MetaData()


class Counted(Base):
    __tablename__ = "tag"

    id = mapped_column(Integer, primary_key=True)
    name = mapped_column(String, unique=True)
    version = Column("slug", String)
    __mapper_args__ = {  # noqa: RUF012
        "version_id_col": version,
        "version_id_generator": lambda version: f"{version}+",
    }


class Concrete(ConcreteBase, Base):
    __tablename__ = "tag"
    __table_args__: ClassVar[Any] = {"extend_existing": True}

    id = mapped_column(Integer, primary_key=True)
    name = mapped_column(String, unique=True)
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "tag", "concrete": True}


class Noted(Base):
    __tablename__ = "book"

    id = mapped_column(Integer, ForeignKey("author.id"), primary_key=True)


@pytest.mark.parametrize(
    ("model", "call", "reason"),
    [
        (Tag, {"name": "x", "factory": Tag}, "factory"),
        (Ticket, {"code": "x"}, "constructor"),
        (Employee, {"name": "x", "badge": 1}, "several tables"),
        (Counted, {"name": "x"}, "version counter"),
        (Concrete, {"name": "x"}, "another table says"),
        (Author, {"name": "x"}, "refresh_flush"),
        (Node, {"name": "x"}, "listens to set"),
        (Author, {"name": "x", "defaults": {"seat": None}}, "relationships"),
    ],
)
async def test_models_that_need_the_unit_of_work(
    session: AsyncSession,
    model: type[Any],
    call: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are flushed; the event says so, and a debug record says why."""
    caplog.set_level(logging.DEBUG, "async_goc")
    assert await strategy_of(session, model, **call) == "savepoint"
    assert reason in caplog.text
    assert model.__name__ in caplog.text


@pytest.mark.parametrize("name", ["before_insert", "after_insert"])
async def test_listening_to_the_mapper(session: AsyncSession, name: str) -> None:
    """The unit of work tells mapper events, to listeners of any mapper, too."""
    heard: list[str] = []

    def hear(_mapper: Mapper[Any], _connection: object, animal: Animal) -> None:
        heard.append(animal.name)

    for target in (Animal, Mapper):
        event.listen(target, name, hear)
        strategy = await strategy_of(session, Animal, name=str(target))
        event.remove(target, name, hear)
        assert (strategy, heard.pop()) == ("savepoint", str(target))
    assert await strategy_of(session, Animal, name="x") == "native"


@pytest.mark.parametrize("name", ["before_flush", "after_flush"])
async def test_listening_to_the_session(session: AsyncSession, name: str) -> None:
    """A session's flush events are sent, too: an audit trail may need them."""
    heard: list[object] = []

    def hear(session: Session, *_: object) -> None:
        heard.append(session)

    event.listen(session.sync_session, name, hear)
    assert await strategy_of(session, Tag, name="x") == "savepoint"
    assert heard


@pytest.mark.parametrize(
    "name",
    ["before_attach", "after_attach", "transient_to_pending", "pending_to_persistent"],
)
async def test_telling_the_session(session: AsyncSession, name: str) -> None:
    """What does not need a flush is told without one, and may change the row.

    Fails without `may_skip_pending` in `_insert`.
    """

    def paint(_: Session, instance: Any) -> None:
        instance.colour = "green"

    event.listen(session.sync_session, name, paint)
    assert await strategy_of(session, Tag, name="x") == "native"
    assert await session.scalar(select(Tag.colour)) == "green"


class Routing(Session):
    """Sends to the leader what a flush writes, and to followers what is read."""

    def get_bind(self, *args: Any, **options: Any) -> Any:
        return super().get_bind(*args, **options)


async def test_a_session_that_routes(engine: AsyncEngine) -> None:
    """Such a session may choose its bind by whether it is flushing."""
    async with AsyncSession(engine, sync_session_class=Routing) as session:
        assert await strategy_of(session, Tag, name="x") == "savepoint"


@on_postgres
async def test_a_deferrable_constraint(engine: AsyncEngine) -> None:
    """PostgreSQL has no ON CONFLICT for a table with a deferrable constraint."""

    class Base(DeclarativeBase):
        pass

    class Seat(Base):
        __tablename__ = "deferrable_seat"
        __table_args__ = (UniqueConstraint("place", deferrable=True),)
        id = mapped_column(Integer, primary_key=True)
        name = mapped_column(String, unique=True)
        place = mapped_column(Integer)

    async with engine.connect() as connection:
        await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(connection) as session:
            assert await strategy_of(session, Seat, name="x") == "savepoint"
        await connection.rollback()


async def test_nothing_to_insert(engine: AsyncEngine) -> None:
    """SQLite has no way to skip a conflict of default values."""

    class Base(DeclarativeBase):
        pass

    class Bare(Base):
        __tablename__ = "bare"
        id = mapped_column(Integer, primary_key=True)

    async with engine.connect() as connection:
        await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(connection) as session:
            assert await strategy_of(session, Bare, id=None) == "savepoint"
        await connection.rollback()


async def test_a_backend_without_returning(
    engine: AsyncEngine, session: AsyncSession, caplog: pytest.LogCaptureFixture
) -> None:
    """A database without RETURNING gets a flush."""
    caplog.set_level(logging.DEBUG, "async_goc")
    engine.dialect.insert_returning = False
    assert await strategy_of(session, Tag, name="x") == "savepoint"
    assert f"no native insert for {engine.dialect.name}" in caplog.text
