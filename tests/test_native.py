"""The strategy "native": one statement that skips conflicts, and no SAVEPOINT."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import Sessions, on_postgres
from models import (
    Animal,
    Author,
    Badge,
    Cat,
    Employee,
    Node,
    Setting,
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
    func,
    inspect,
    null,
    select,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapper, Session, mapped_column

from async_goc import Event, Policy, get_or_create

NATIVE = Policy(strategy="native", missing_constraint="ignore")


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


async def test_an_ordinary_object(session: AsyncSession) -> None:
    """The row comes back as a flush would have left it."""
    tag, _ = await get_or_create(
        session, Tag, name="red", defaults={"note": "n"}, policy=NATIVE
    )
    state: Any = inspect(tag)
    assert state.persistent
    assert not state.modified
    assert not state.expired_attributes
    assert tag.made_at is not None
    assert tag in session
    assert tag not in session.dirty
    assert await session.get(Tag, tag.id) is tag
    tag.colour = "blue"
    await session.flush()
    key = tag.id
    session.expunge_all()
    found = await session.get_one(Tag, key)
    assert (found.name, found.colour) == ("red", "blue")


async def test_defaults(session: AsyncSession) -> None:
    """Those of the column apply, SQL expressions are sent, None is as in a flush."""
    cat, _ = await get_or_create(
        session, Cat, name="Tom", defaults={"lives": None}, policy=NATIVE
    )
    assert (cat.kind, cat.lives) == ("cat", 9)
    tag, _ = await get_or_create(
        session,
        Tag,
        name="red",
        defaults={"colour": func.lower("BLUE"), "slug": null()},
        policy=NATIVE,
    )
    assert (tag.colour, tag.slug) == ("blue", None)
    setting, _ = await get_or_create(
        session, Setting, function="f", data=None, policy=NATIVE
    )
    _, created = await get_or_create(
        session, Setting, function="f", data=None, policy=NATIVE
    )
    assert setting.data is None
    assert not created


async def test_deferred_columns_stay_deferred(session: AsyncSession) -> None:
    """They are not loaded with the rest, and not expired."""
    tag, _ = await get_or_create(session, Tag, name="red", policy=NATIVE)
    state: Any = inspect(tag)
    assert "note" in state.unloaded
    assert "note" not in state.expired_attributes


@pytest.mark.parametrize("is_nested", [True, False])
async def test_rollback_makes_it_transient(
    session: AsyncSession, *, is_nested: bool
) -> None:
    """As any object that was new in the transaction. Fails without `_new[state]`."""
    await session.begin()
    savepoint = await session.begin_nested() if is_nested else session
    tag, _ = await get_or_create(session, Tag, name="red", policy=NATIVE)
    await savepoint.rollback()
    assert inspect(tag).transient
    assert tag not in session
    assert tag.name == "red"
    again, created = await get_or_create(session, Tag, name="red", policy=NATIVE)
    assert created
    assert again is not tag


async def test_released_savepoint(session: AsyncSession) -> None:
    """It is new to the transaction around, then."""
    async with session.begin_nested():
        tag, _ = await get_or_create(session, Tag, name="red", policy=NATIVE)
    assert inspect(tag).persistent
    await session.rollback()
    assert inspect(tag).transient


@on_postgres
async def test_primary_key_of_a_deleted_row(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The session still has the old row's object; the new row gets one of its own."""
    old, _ = await get_or_create(session, Tag, id=7, name="old", policy=NATIVE)
    await session.commit()
    async with engine.begin() as connection:
        await connection.execute(Tag.__table__.delete())
    new, created = await get_or_create(session, Tag, id=7, name="new", policy=NATIVE)
    assert created
    assert new is not old
    assert await session.get(Tag, 7) is new
    assert old not in session


@on_postgres
async def test_errors_end_the_transaction(session: AsyncSession) -> None:
    """As those of any statement; the note says so."""
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(
            session, Tag, name="red", defaults={"colour": "bad"}, policy=NATIVE
        )
    (note,) = raised.value.__notes__
    assert "good_colour" in note
    assert "Roll the transaction back" in note
    with pytest.raises(DBAPIError):
        await session.execute(select(1))
    await session.rollback()
    assert await session.scalar(select(func.count(Tag.id))) == 0


async def test_errors_of_an_sqlite_statement(sessions: Sessions) -> None:
    """SQLite undoes the statement only."""
    async with sessions() as session:
        if session.bind.dialect.name != "sqlite":
            return
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(session, Tag, name="red", defaults={"colour": "bad"})
        assert "goes on" in raised.value.__notes__[0]
        await session.execute(select(1))


@on_postgres
async def test_conflict_on_another_constraint(session: AsyncSession) -> None:
    """Skipped, too; the SAVEPOINT tells, and the transaction goes on."""
    session.add(Tag(name="blue", slug="s"))
    events: list[Event] = []
    policy = Policy(strategy="native", attempts=1, observer=events.append)
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(
            session, Tag, name="red", defaults={"slug": "s"}, policy=policy
        )
    assert "slug" in raised.value.__notes__[0]
    assert "goes on" in raised.value.__notes__[0]
    assert [(e.strategy, e.attempts) for e in events] == [("savepoint", 1)]
    assert await session.scalar(select(func.count(Tag.id))) == 1


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_two_values_at_once(engine: AsyncEngine) -> None:
    """Rivals who take two unique values lose, or win, both.

    Fails, now and then, with `index_elements=["name"]` as the conflict target.
    """
    policy = Policy(strategy="native", locks=None)
    start = asyncio.Barrier(12)

    async def ask(number: int) -> bool:
        await start.wait()
        name = f"tag {number}"
        async with AsyncSession(engine) as session, session.begin():
            _, created = await get_or_create(
                session, Tag, name=name, defaults={"slug": name}, policy=policy
            )
        return created

    for number in range(20):
        assert sum(await asyncio.gather(*(ask(number) for _ in range(12)))) == 1


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


class Noted(Base):
    __tablename__ = "book"

    id = mapped_column(Integer, ForeignKey("author.id"), primary_key=True)


@pytest.mark.parametrize(
    ("model", "call", "reason"),
    [
        (Tag, {"name": "x", "factory": Tag}, "factory"),
        (Badge, {"code": "x"}, "constructor"),
        (Ticket, {"code": "x"}, "constructor"),
        (Employee, {"name": "x", "badge": 1}, "several tables"),
        (Counted, {"name": "x"}, "version counter"),
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
    """They get it; the event says so, and a debug record why."""
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
    """Likewise those of a session: an audit trail, say."""
    heard: list[object] = []

    def hear(session: Session, *_: object) -> None:
        heard.append(session)

    event.listen(session.sync_session, name, hear)
    assert await strategy_of(session, Tag, name="x") == "savepoint"
    assert heard


@pytest.mark.parametrize("name", ["before_attach", "pending_to_persistent"])
async def test_telling_the_session(session: AsyncSession, name: str) -> None:
    """What does not need a flush is told without one, and may change the row."""

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
    """It sees a flush, and can know it by that."""
    async with AsyncSession(engine, sync_session_class=Routing) as session:
        assert await strategy_of(session, Tag, name="x") == "savepoint"


@on_postgres
async def test_a_deferrable_constraint(engine: AsyncEngine) -> None:
    """PostgreSQL knows no ON CONFLICT on a table that has one."""

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
    """Or one that is not in the table."""
    caplog.set_level(logging.DEBUG, "async_goc")
    engine.dialect.insert_returning = False
    assert await strategy_of(session, Tag, name="x") == "savepoint"
    assert f"no native insert for {engine.dialect.name}" in caplog.text
