"""Where no constraint forbids it, a lock on the key prevents a second row."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import date
from typing import Any

import processes
import pytest
import review_storm
from backends import Sessions, before_sql, by_savepoint, on_postgres
from creators import make
from kinds import models_of
from models import Animal, Author, Book, Review, Tag
from rows import count
from sqlalchemy import (
    Column,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from typed import GENERIC, POSTGRESQL
from words import Word

from async_goc import (
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)
from async_goc._call.policy import Strategy
from async_goc._lookup import bind
from async_goc._turns.advisory import _numbers
from async_goc.exceptions import (
    IsolationError,
    MissingConstraintError,
    RivalTimeoutError,
)

# Calls meet in the database only.
POLICY = Policy(advisory_lock=True, locks=None)
LOCKS = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
Verb = Callable[..., Awaitable[Any]]


async def get(session: Any, stars: int, policy: Policy = POLICY) -> Any:
    return await get_or_create(session, Review, stars=stars, policy=policy)


async def by_sql(session: Any, stars: int, policy: Policy = POLICY) -> Any:
    return await get_or_create(session, Review, Review.stars == stars, policy=policy)


async def change(session: Any, stars: int, policy: Policy = POLICY) -> Any:
    return await update_or_create(session, Review, stars=stars, policy=policy)


async def get_many(session: Any, stars: int, policy: Policy = POLICY) -> Any:
    rows = [{"stars": 0}, {"stars": stars}]
    found = await get_or_create_many(session, Review, rows, key="stars", policy=policy)
    return found[1]


async def change_many(session: Any, stars: int, policy: Policy = POLICY) -> Any:
    rows = [{"stars": 0}, {"stars": stars}]
    args = (session, Review, rows)
    found = await update_or_create_many(*args, key="stars", policy=policy)
    return found[1]


VERBS = [get, by_sql, change, get_many, change_many]


@on_postgres
@by_savepoint
@pytest.mark.parametrize("verb", VERBS)
async def test_two_transactions_create_one_row(sessions: Sessions, verb: Verb) -> None:
    """The second waits for the first, and then finds its row; nothing is warned of.

    Fails without `advisory_lock` in `find_or_insert`, and without `_lock` in
    `Bulk._create`.
    """
    async with sessions() as one, sessions() as two, sessions() as rival:
        _, created = await verb(one, 5)
        assert created
        call = asyncio.create_task(verb(two, 5))
        while not await rival.scalar(WAITING):
            assert not call.done()
        await one.commit()
        _, created = await call
        assert not created
        await two.commit()
        assert await count(rival, Review) == (2 if "many" in verb.__name__ else 1)
        assert await rival.scalar(LOCKS) == 0


@on_postgres
@by_savepoint
async def test_all_verbs_have_one_lock(sessions: Sessions) -> None:
    """For the same names and values, whatever the verb; and none on a hit."""
    async with sessions() as session:
        await get(session, 0)
        for verb in VERBS:
            await verb(session, 5)
            await session.execute(text("DELETE FROM review WHERE stars = 5"))
            session.expunge_all()
        assert await session.scalar(LOCKS) == 2
        await session.commit()
        await get(session, 0)
        assert await session.scalar(LOCKS) == 0
        # What fails gives the lock back, where there is a SAVEPOINT around it.
        async with session.begin_nested() as savepoint:
            await get(session, 7)
            await savepoint.rollback()
        assert await session.scalar(LOCKS) == 0
        assert await Word.as_unique(session, text="a", policy=POLICY) is not None
        assert await session.scalar(LOCKS) == 1


@on_postgres
@by_savepoint
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_above_read_committed(
    sessions: Sessions, statements: list[str], level: str
) -> None:
    """A snapshot would hide the rival's row: that is refused before any INSERT."""
    async with sessions() as session:
        await session.execute(text(f"SET TRANSACTION ISOLATION LEVEL {level}"))
        for verb in VERBS:
            with pytest.raises(IsolationError, match=level) as raised:
                await verb(session, 5)
            assert raised.value.level == level.lower()
        assert await session.scalar(LOCKS) == 0
        await session.commit()
    assert "INSERT" not in statements


@on_postgres
@by_savepoint
async def test_the_lock_waits_no_longer_than_the_limit(sessions: Sessions) -> None:
    """With `lock_timeout`, a lock that a rival holds is given up; nothing else is."""
    policy = Policy(advisory_lock=True, locks=None, lock_timeout=0.02)
    async with sessions() as one, sessions() as two:
        await get(one, 5)
        await get(two, 6, policy)
        for verb in VERBS:
            with pytest.raises(RivalTimeoutError):
                await verb(two, 5, policy)
        assert await two.scalar(LOCKS) == 2
        await two.commit()


@on_postgres
async def test_creators(engine: AsyncEngine) -> None:
    """A creator's calls have it, too; they go by a session."""
    lanes: list[str | None] = []
    policy = Policy(advisory_lock=True, observer=lambda event: lanes.append(event.lane))
    async with make(engine, policy=policy) as creator:
        calls = [creator.get_or_create(Tag, name="a") for _ in range(3)]
        calls.append(creator.get_or_create(Tag, name="b"))
        await asyncio.gather(*calls)
        _, created = await creator.get_or_create(Review, stars=1)
        assert created
    assert set(lanes) == {"session"}


@before_sql
async def test_other_databases(session: AsyncSession, statements: list[str]) -> None:
    """There is no such lock: that is refused before any SQL."""
    for verb in VERBS:
        with pytest.raises(ValueError, match="sqlite has no lock on a key"):
            await verb(session, 5)
    with pytest.raises(ValueError, match="leave it out"):
        await Word.as_unique(session, text="a", policy=POLICY)
    assert statements == []


@on_postgres
@by_savepoint
async def test_a_constraint_may_be_asked_for_all_the_same(
    session: AsyncSession, statements: list[str]
) -> None:
    """`missing_constraint="error"` is an error, with the lock or without."""
    strict = Policy(advisory_lock=True, missing_constraint="error")
    with pytest.raises(MissingConstraintError):
        await get(session, 5, strict)
    assert statements == []


@on_postgres
@by_savepoint
async def test_keys_that_are_not_plain(session: AsyncSession) -> None:
    """SQL without an equality locks the table's name; parents and NULL are values."""
    session.add(Author(name="Ann"))
    ann = (await session.scalars(select(Author))).one()
    policy = Policy(advisory_lock=True, locks=None, missing_constraint="ignore")
    before = 0

    async def new() -> bool:
        nonlocal before
        known, before = before, await session.scalar(LOCKS) or 0
        return before > known

    how: Any = {"policy": policy, "defaults": {"stars": 8}}
    await get_or_create(session, Review, Review.stars > 7, **how)
    assert await new()
    how["defaults"] = {"stars": 1}
    await get_or_create(session, Review, Review.stars < 7, **how)
    assert not await new()
    await get_or_create(session, Book, author=ann, title="one", policy=policy)
    assert await new()
    await get_or_create(session, Review, stars=3, book=None, policy=policy)
    assert await new()
    how["defaults"] = {"name": "Leo"}
    await get_or_create(session, Animal, func.lower(Animal.name) == "leo", **how)
    assert await new()


@on_postgres
@by_savepoint
async def test_numbers_are_the_same_everywhere(session: AsyncSession) -> None:
    """A number depends on nothing but the table, the names and the values.

    One that changes with a version of this package would be another lock.
    """
    texts = ["a", "\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 300, None]
    assert numbers_of(session, models_of(String())[0], texts) == [
        *(-3033217316563538869, 1913581242138450224),
        *(4660656524100218020, -119643914050164612),
    ]
    one, other, *rest = numbers_of(session, models_of(Integer())[0], [1, 2, True, 1.0])
    assert rest == [one, one]
    assert other != one
    assert len({*numbers_of(session, models_of(LargeBinary())[0], [b"a", b"b"])}) == 2
    assert len({*numbers_of(session, models_of(Numeric())[0], [1, 2])}) == 1
    assert len({*numbers_of(session, models_of(CITEXT())[0], ["Ann", "ANN"])}) == 1


@on_postgres
@by_savepoint
@pytest.mark.heavy
async def test_equal_values_have_one_lock(session: AsyncSession) -> None:
    """Whatever the type, and however a value is written: the database is the judge.

    Fails without `has_known_equality` in `_counts`.
    """
    connection = await session.connection()
    for number, (type_, values) in enumerate([*GENERIC, *POSTGRESQL]):
        one, _ = models_of(type_)
        stored = Table(
            f"pairs_{number}",
            one.metadata,
            Column("place", Integer),
            Column("key", one.__table__.c.key.type),
        )
        await connection.run_sync(one.metadata.create_all, [stored])
        for place, value in enumerate(values):
            with suppress(SQLAlchemyError):  # It is none of the type.
                async with connection.begin_nested():
                    row = {"place": place, "key": value}
                    await connection.execute(stored.insert(), row)
        other = stored.alias()
        pairs = select(stored.c.place, other.c.place).where(stored.c.key == other.c.key)
        numbers = numbers_of(session, one, values)
        for here, there in await connection.execute(pairs):
            assert numbers[here] == numbers[there], (type_, values[here], values[there])


def numbers_of(session: AsyncSession, model: Any, values: Sequence[Any]) -> list[int]:
    """The number of each value's lock, by a keyword and by SQL."""
    own = session.sync_session
    where: Any = (own.get_bind(), {}, None)
    found: list[int] = []
    for value in values:
        lookup = bind(session, model, (), {"key": value})
        found += _numbers(lookup, [lookup.values], where)
        by_sql = bind(session, model, [model.key == value], {})
        assert [*_numbers(by_sql, [{}], where)] == found[-1:]
    return found


@on_postgres
async def test_what_is_left_of_keys_has_an_order(engine: AsyncEngine) -> None:
    """Where a column does not count, many rows deadlock no more than elsewhere.

    Fails without `sort` in `lock_keys`.
    """

    class Base(DeclarativeBase):
        pass

    class Visit(Base):
        __tablename__ = "visit"
        id: Mapped[int] = mapped_column(primary_key=True)
        day: Mapped[date]
        name: Mapped[str]

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

    async def ask(*names: str) -> None:
        rows = [
            {"day": date(2000, 1, day), "name": name}
            for day, name in enumerate(names, 1)
        ]
        for _ in range(5):
            async with AsyncSession(engine) as session:
                how: Any = {"key": ["day", "name"], "policy": POLICY}
                await get_or_create_many(session, Visit, rows, **how)

    await asyncio.gather(*(ask(*names) for names in 3 * ["abc", "cba"]))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("backend", "strategy"),
    [("postgresql+asyncpg", "native"), ("postgresql+psycopg", "savepoint")],
    indirect=True,
)
async def test_storm_of_processes(
    url: str, engine: AsyncEngine, strategy: Strategy
) -> None:
    """4 processes x 4 tasks, one row or many: each row once, and created once."""
    calls = [(url, 30, 4, strategy, seed) for seed in range(4)]
    created = await processes.at_once(review_storm, *calls)
    async with AsyncSession(engine) as session:
        stars = list(await session.scalars(select(Review.stars)))
    assert sorted(stars) == list(range(30))
    assert sum(created) == 30
