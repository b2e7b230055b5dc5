"""What a direct lane leaves to a session, and why."""

import logging
from typing import Any

import pytest
from backends import on_sqlite
from directs import direct
from sqlalchemy import Engine, ForeignKey, StaticPool, String, event, func, null
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    composite,
    mapped_column,
    reconstructor,
    relationship,
)

from async_goc import sqlite
from async_goc._models import private
from async_goc._own.asks import Ask
from async_goc._own.direct import kind_of


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    word: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(deferred=True, unique=True)


class Child(Base):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("plain.id"), unique=True)
    parent: Mapped[Plain | None] = relationship(lazy="joined")


class Summed(Base):
    __tablename__ = "summed"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    length = column_property(func.length(name))


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012


class Listed(Base):
    __tablename__ = "listed"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    items: Mapped[Any] = mapped_column(MutableList.as_mutable(ARRAY(String)))


class Pair:
    def __init__(self, a: str, b: str) -> None:
        self.a, self.b = a, b


class Paired(Base):
    __tablename__ = "paired"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    a: Mapped[str]
    b: Mapped[str]
    pair: Mapped[Pair] = composite(Pair, "a", "b")


class Remade(Base):
    __tablename__ = "remade"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    @reconstructor
    def remake(self) -> None:
        self.seen = True


class HiddenKey(Base):
    __tablename__ = "hidden_key"
    id: Mapped[int] = mapped_column(primary_key=True, deferred=True)
    name: Mapped[str] = mapped_column(unique=True)


@pytest.mark.parametrize(
    ("model", "names", "reason"),
    [
        (Plain, ("word",), "unique together"),
        (Plain, ("note",), "unique together"),
        (Child, ("name",), "a relationship is loaded with it"),
        (Summed, ("name",), "columns that are SQL"),
        (Animal, ("name",), "part of an inheritance"),
        (Cat, ("name",), "part of an inheritance"),
        (Listed, ("name",), "listener to load"),
        (Paired, ("name",), "listener to load"),
        (Remade, ("name",), "listener to load"),
        (HiddenKey, ("name",), "primary key is deferred"),
    ],
)
@on_sqlite
async def test_models(
    engine: AsyncEngine,
    caplog: pytest.LogCaptureFixture,
    model: Any,
    names: tuple[str, ...],
    reason: str,
) -> None:
    """What loading the model takes more than a row of its table, a session does."""
    caplog.set_level(logging.DEBUG, "async_goc")
    probe = AsyncSession(engine).sync_session
    assert kind_of(probe, model, names, None).direct() is None
    assert kind_of(probe, model, names, None).direct() is None
    [record] = caplog.records
    assert reason in record.message


@pytest.mark.parametrize("name", ["LISTENERS_OF_CLASS", "ANOTHER"])
@pytest.mark.parametrize(
    ("heard", "what"),
    [
        ("engine", "before_cursor_execute"),
        ("engine", "after_execute"),
        ("engine", "commit"),
        ("engine", "do_execute"),
        ("engine", "handle_error"),
        ("engine", "engine_connect"),
        ("engines", "before_cursor_execute"),
        ("session's class", "do_orm_execute"),
        ("session's class", "after_commit"),
        ("sessions", "after_begin"),
        ("sessions", "loaded_as_persistent"),
        ("model", "load"),
        ("model", "refresh"),
    ],
)
@on_sqlite
async def test_listeners(
    engine: AsyncEngine,
    heard: str,
    what: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Listeners that would not hear of a call come and go, and calls go by them.

    Fails without `class_listeners` in `Ears.have_changed`.
    """
    if name == "LISTENERS_OF_CLASS":
        monkeypatch.setattr(private, name, "nowhere")
    own = type("Own", (Session,), {})
    probe = AsyncSession(engine, sync_session_class=own).sync_session
    targets = {
        "engine": engine.sync_engine,
        "engines": Engine,
        "session's class": own,
        "sessions": Session,
        "model": Plain,
    }

    def listener(*_: Any, **__: Any) -> None:
        pass

    def ask() -> Any:
        return kind_of(probe, Plain, ("name",), None).direct()

    first = ask()
    assert first is not None
    for _ in range(2):
        event.listen(targets[heard], what, listener)
        assert ask() is None
        event.remove(targets[heard], what, listener)
        assert ask() is first


@pytest.mark.parametrize("what", ["before_insert", "init", "refresh_flush", "set"])
@on_sqlite
async def test_listeners_to_what_is_inserted(engine: AsyncEngine, what: str) -> None:
    """They come and go, and meanwhile rows are found, and not inserted.

    Fails without `have_changed` in `Inserts._has_obstacle`, if only the first counts.
    """
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.tables["plain"].create)
    lane = direct(engine, Plain, "name", defaults=["word"])
    target: Any = Plain.word if what == "set" else Plain

    def listener(*_: Any, **__: Any) -> None:
        pass

    for name in "ab":
        assert await lane.insert({"name": name}, {"word": "w"})
        event.listen(target, what, listener)
        assert await lane.insert({"name": "c"}, {"word": "w"}) is None
        event.remove(target, what, listener)


@on_sqlite
async def test_echo(engine: AsyncEngine) -> None:
    """Who wants to read the statements has them logged by SQLAlchemy."""
    probe = AsyncSession(engine).sync_session
    assert kind_of(probe, Plain, ("name",), None).direct() is not None
    engine.echo = True
    assert kind_of(probe, Plain, ("name",), None).direct() is None
    engine.echo = False
    assert kind_of(probe, Plain, ("name",), None).direct() is not None


class Hooked(Session):
    def flush(self, objects: Any = None) -> None:
        super().flush(objects)


class HookedFromOutside(AsyncSession):
    async def commit(self) -> None:
        await super().commit()


@pytest.mark.parametrize(
    "options",
    [
        {"sync_session_class": Hooked},
        {"class_": HookedFromOutside},
        {"twophase": True},
        {"autobegin": False},
    ],
)
@on_sqlite
async def test_sessions(engine: AsyncEngine, options: dict[str, Any]) -> None:
    """A session that does more than SQLAlchemy's is asked itself."""
    session = async_sessionmaker(engine, **options)()
    assert kind_of(session.sync_session, Plain, ("name",), None).direct() is None


@on_sqlite
async def test_engines(url: str, engine: AsyncEngine) -> None:
    """An engine with options or levels of its own executes by itself."""
    in_memory = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    level = create_async_engine(url, isolation_level="READ UNCOMMITTED")
    for each in (in_memory, level):
        sqlite.configure(each)
    options = create_async_engine(url, execution_options={"max_row_buffer": 5})
    sqlite.configure(options)
    plain = create_async_engine(url)
    copy = engine.execution_options(logging_token="x")  # noqa: S106
    for other in (in_memory, level, plain, copy, options):
        assert direct(other, Plain, "name") is None
    async with engine.connect() as connection:
        probe = AsyncSession(connection).sync_session
        assert kind_of(probe, Plain, ("name",), None).direct() is None
    for each in (in_memory, level, options):
        await each.dispose()


@on_sqlite
async def test_values(engine: AsyncEngine) -> None:
    """What is no plain value is compared, or refused, by a session."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.tables["plain"].create)
    lane = direct(engine, Plain, "name", defaults=["word"])
    for value in (None, null(), func.lower("A"), Plain(), str, Plain.name, object()):
        assert await lane.find({"name": value}) is None
        assert await lane.insert({"name": value}, {}) is None
        assert await lane.find_or_insert_many(
            [Ask({"name": value}, {})], lock_timeout=None
        ) == [None]
    for value in (func.lower("A"), lambda: "x", object()):
        assert await lane.insert({"name": "a"}, {"word": value}) is None
        assert await lane.find_or_insert_many(
            [Ask({"name": "a"}, {"word": value})], lock_timeout=None
        ) == [None]
    # Such defaults are refused by a session, on a hit, too.
    for name in ("name", "nam"):
        assert direct(engine, Plain, "name", defaults=[name]) is None


@on_sqlite
async def test_many_lookups(engine: AsyncEngine) -> None:
    """However many sets of names there are, a session keeps some of them only."""
    probe = AsyncSession(engine).sync_session
    for number in range(450):
        kind_of(probe, Plain, ("name",), frozenset({f"x{number}"}))
    [lanes] = [v for k, v in probe.info.items() if k == "async_goc.direct"]
    assert len(lanes) == 200
