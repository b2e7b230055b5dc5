"""What a direct lane makes of odd names, types, values, drivers' options and pools."""

import asyncio
from datetime import datetime
from typing import Any

import creators
import pytest
from backends import on_postgres
from directs import direct
from models import Badge, Note, Tag
from sqlalchemy import JSON, Enum, NullPool, String, exc, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from typed import Size

from async_goc import sqlite
from async_goc._own import inserts
from async_goc._own.asks import Ask

NARROW = String(5).with_variant(String(9), "postgresql")


class Base(DeclarativeBase):
    pass


class Quoted(Base):
    """Names that parameters of statements cannot have as they are."""

    __tablename__ = "quoted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None] = mapped_column("a size")


class Reflected(Base):
    """An attribute with such a name, as reflection makes it."""

    __tablename__ = "reflected"
    id: Mapped[int] = mapped_column(primary_key=True)
    locals()["a name"] = mapped_column(String, unique=True)


class Narrow(Base):
    """A type that no array has."""

    __tablename__ = "narrow"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    code: Mapped[str | None] = mapped_column(NARROW, unique=True)


class Lettered(Base):
    """A type that refuses values."""

    __tablename__ = "lettered"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    letter: Mapped[str | None] = mapped_column(Enum("a", "b", name="odd_letter"))


class Computed(MappedAsDataclass, Base):
    """A dataclass whose constructor sets SQL."""

    __tablename__ = "computed"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    name: Mapped[str] = mapped_column(unique=True)
    word: Mapped[str] = mapped_column(default_factory=lambda: func.lower("A"))


class Documented(Base):
    """A value that can be changed in place."""

    __tablename__ = "documented"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    data: Mapped[Any] = mapped_column(JSON, nullable=True)


@pytest.fixture
async def odd(engine: AsyncEngine) -> Any:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


@pytest.mark.parametrize("way", ["direct", "batch"])
@pytest.mark.parametrize(
    ("model", "name", "defaults"),
    [
        (Quoted, "name", {"size": 5}),
        (Reflected, "a name", {}),
        (Lettered, "name", {"letter": "b"}),
        (Narrow, "name", {"code": None}),
        (Narrow, "code", {"name": "y"}),
        (Badge, "code", {}),
        (Computed, "name", {}),
    ],
)
async def test_names_and_types(
    odd: AsyncEngine, way: str, model: Any, name: str, defaults: dict[str, Any]
) -> None:
    """Whether or not the short way can have them: one row for each, created once."""
    creator = creators.make(odd, way)
    for is_new in (True, False):
        values = [{**defaults} for _ in range(2)]
        if "name" in defaults:
            values[1]["name"] = "z"
        results = await creators.at_once(
            creator.get_or_create(model, defaults=each, **{name: key})
            for key, each in zip("ab", values, strict=True)
        )
        assert [created for _, created in results] == [is_new, is_new]
        for (row, _), key, each in zip(results, "ab", values, strict=True):
            assert getattr(row, name) == key
            assert {n: getattr(row, n) for n in each} == each
    assert await creators.count(odd, model) == 2


@pytest.mark.parametrize("way", ["direct", "batch"])
@pytest.mark.parametrize(
    ("model", "lookup", "defaults", "error"),
    [
        (Lettered, {"name": "a"}, {"letter": Size.SMALL}, exc.StatementError),
        (Badge, {"id": 5}, {}, TypeError),
        (Note, {"id": 5}, {"author_id": 404}, exc.IntegrityError),
    ],
    ids=["by the type", "by the constructor", "by the COMMIT"],
)
async def test_refused(
    odd: AsyncEngine,
    way: str,
    model: Any,
    lookup: Any,
    defaults: Any,
    error: type[Exception],
) -> None:
    """A session raises it, however often, and no row is there, or in a connection.

    Fails without `rollback` in `_commit`: the next SELECT finds what is not committed.
    """
    creator = creators.make(odd, way)
    for _ in range(2):
        with pytest.raises(error):
            await creator.get_or_create(model, defaults=defaults, **lookup)
        assert await creators.count(odd, model) == 0


@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_nothing_mutable_is_shared(odd: AsyncEngine, way: str) -> None:
    """Equal calls at once have a document each, with lists of its own.

    Fails without `deepcopy` in `Loader.values`.
    """
    creator = creators.make(odd, way)
    data: dict[str, Any] = {"a": [1]}
    for _ in range(2):
        results = await creators.at_once(
            creator.get_or_create(Documented, name="x", defaults={"data": data})
            for _ in range(3)
        )
        for row, _ in results:
            assert row.data == {"a": [1]}
            row.data["a"].append(2)
    assert data == {"a": [1]}


async def test_no_member(odd: AsyncEngine) -> None:
    """A text that an Enum does not have is sent by a session, if at all."""
    lane = direct(odd, Lettered, "name", defaults=["letter"])
    asks = [Ask({"name": name}, {"letter": name}) for name in "abc"]
    *_, unknown = await lane.find_or_insert_many(asks, lock_timeout=None)
    assert unknown is None
    assert await lane.insert({"name": "d"}, {"letter": "d"}) is None
    assert await creators.count(odd, Lettered) == 2


async def test_few_statements(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are never many of them, whatever columns the rows fill.

    Fails without `_MOST_STATEMENTS` in `Inserts._known`.
    """
    monkeypatch.setattr(inserts, "_MOST_STATEMENTS", 2)
    lane = direct(engine, Tag, "name", defaults=["id", "made_at"])
    now = datetime(2026, 1, 1)  # noqa: DTZ001 - the column has no time zone
    rows: list[dict[str, Any]] = [{}, {"id": -1}, {"made_at": now}]
    for number, row in enumerate(rows):
        made = await lane.insert({"name": f"{number}"}, row)
        assert lane.instance(made, is_created=True).name == f"{number}"
    assert len(lane._inserts._statements) == 1


async def test_a_deferred_default(engine: AsyncEngine) -> None:
    """A session inserts it, because a statement would not return it."""
    creator = creators.make(engine, "batch")
    for is_new in (True, False):
        tag, created = await creator.get_or_create(
            Tag, name="a", defaults={"note": lambda: "n"}
        )
        assert (tag.name, created) == ("a", is_new)
    async with AsyncSession(engine) as session:
        assert await session.scalar(select(Tag.note)) == "n"


async def test_no_connection_in_time(url: str) -> None:
    """The pool's error is the caller's to see: a session would wait as long again."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine)
    lane, asks = direct(engine, Tag, "name"), [Ask({"name": "a"}, {})]
    async with engine.connect():
        for call in (
            lambda: lane.find({"name": "a"}),
            lambda: lane.insert({"name": "a"}, {}),
            lambda: lane.find_or_insert_many(asks, lock_timeout=None),
        ):
            with pytest.raises(exc.TimeoutError):
                await call()
    await engine.dispose()


@pytest.mark.parametrize("backend", ["postgresql+psycopg"], indirect=True)
async def test_parameters_without_names(url: str) -> None:
    """The engine may send them by their places."""
    engine = create_async_engine(url, paramstyle="format")
    creator = creators.make(engine)
    for is_new in (True, False):
        tag, created = await creator.get_or_create(Tag, name="a%s")
        assert (tag.name, created) == ("a%s", is_new)
    await engine.dispose()


@on_postgres
def test_loops_in_turn(url: str) -> None:
    """A creator goes from one event loop to another, and back."""
    creator = creators.make(create_async_engine(url, poolclass=NullPool))
    results: list[bool] = []
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for runner in (one, other, one):
            _, created = runner.run(creator.get_or_create(Tag, name="a"))
            results.append(created)
    assert results == [True, False, False]
