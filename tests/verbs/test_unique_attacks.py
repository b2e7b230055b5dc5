"""as_unique under attack: cancelled, in two tasks, with odd values, closed inside."""

import asyncio
import gc
from collections.abc import Hashable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import steps
from backends import POSTGRES, Sessions, by_savepoint, on_sqlite
from sqlalchemy import String, TypeDecorator, func, inspect, select, update
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    PendingRollbackError,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from words import Word

from async_goc import KeyedLocks, Policy, UniqueMixin
from async_goc._unique.key import is_alike

# aiosqlite's close() may be cancelled, and its connection left to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


class Base(UniqueMixin, DeclarativeBase):
    pass


class Folded(Base):
    __tablename__ = "folded"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(
        String(collation="NOCASE").with_variant(CITEXT(), "postgresql"), unique=True
    )


@pytest.fixture
async def folded(engine: AsyncEngine) -> Any:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield Folded
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


async def still_there(session: AsyncSession, policy: Policy) -> bool:
    """Ask for a row that the transaction has created, and say if it has it."""
    try:
        word = await Word.as_unique(session, text="kept", policy=policy)
    except (PendingRollbackError, DBAPIError):
        return False  # The cancellation has cost the transaction, and the call says so.
    # What is handed out is there: else, this raises, or finds nothing.
    found = await session.scalar(select(Word.id).filter_by(text="kept"))
    assert found == word.id
    return True


@pytest.mark.heavy
@pytest.mark.parametrize("way", [steps.cancel, steps.cancel_late])
@by_savepoint
async def test_cancelled_anywhere(
    sessions: Sessions, engine: AsyncEngine, way: steps.Way
) -> None:
    """After a cancellation, a session hands out what is there, or raises."""
    locks = KeyedLocks()
    policy = Policy(locks=locks)

    async def note() -> str:
        await asyncio.sleep(0)
        return "noted"

    for k in count(1):
        async with sessions() as session:
            await Word.as_unique(session, text="kept", policy=policy)
            how: Any = {"defaults": {"note": note}, "policy": policy}
            was_cancelled = await way(Word.as_unique(session, text="new", **how), k)
            if not await still_there(session, policy):
                with suppress(DBAPIError):
                    await session.rollback()
            # The same object again, and none that a rollback has undone.
            with suppress(DBAPIError):
                new = await Word.as_unique(session, text="new", **how)
                assert await Word.as_unique(session, text="new", **how) is new
                assert new.note == "noted"
                assert inspect(new).persistent
        await steps.collect(engine)
        await steps.rest(engine, locks)
        if not was_cancelled:
            break


@pytest.mark.parametrize("backend", POSTGRES, indirect=True)
@by_savepoint
async def test_a_connection_that_is_lost(session: AsyncSession) -> None:
    """With its connection, a session has lost what it had created.

    Fails without `_has_lost` in `Known.believed`.
    """
    word = await Word.as_unique(session, text="sun")
    connection = await session.connection()
    await connection.invalidate()
    with pytest.raises(PendingRollbackError):
        await Word.as_unique(session, text="sun")
    await session.rollback()
    assert await Word.as_unique(session, text="sun") is not word


@by_savepoint
async def test_two_tasks(session: AsyncSession) -> None:
    """A second task is refused while the first one's call goes on, which is served."""
    began, may_end = asyncio.Event(), asyncio.Event()

    async def note() -> str:
        began.set()
        await may_end.wait()
        return "first"

    call = Word.as_unique(session, text="sun", defaults={"note": note})
    first = asyncio.create_task(call)
    await began.wait()
    for text in ("sun", "moon"):
        with pytest.raises(InvalidRequestError, match="in use by a call in another"):
            await Word.as_unique(session, text=text, defaults={"note": "second"})
    may_end.set()
    word = await first
    assert word.note == "first"
    assert await Word.as_unique(session, text="sun") is word


class Sly:
    """A hash that can be had a few times, and compares as it likes."""

    def __init__(self, text: str, mood: str) -> None:
        self.text = text
        self.mood = mood
        self.hashes = 0

    def __hash__(self) -> int:
        self.hashes += 1
        if self.hashes > {"no second hash": 1, "no fourth hash": 3}.get(self.mood, 99):
            raise LookupError
        if self.mood == "another hash":
            return self.hashes
        return 1

    def __eq__(self, other: object) -> Any:
        if self.mood == "no truth":
            return func.lower("a") == "a"
        if self.mood == "no comparison":
            raise LookupError
        return isinstance(other, Sly) and self.text == other.text


MOODS = [
    "no second hash",
    "no fourth hash",
    "another hash",
    "no truth",
    "no comparison",
    "good",
]


@on_sqlite
@pytest.mark.parametrize("mood", MOODS)
@by_savepoint
async def test_sly_hashes(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch, mood: str
) -> None:
    """Whatever `unique_hash` returns, its errors cost a SELECT and nothing else."""

    def unique_hash(*, text: str) -> Hashable:
        return Sly(text, mood)

    monkeypatch.setattr(Word, "unique_hash", unique_hash)
    words = {text: await Word.as_unique(session, text=text) for text in ("sun", "moon")}
    for _ in range(2):
        for text, word in words.items():
            assert await Word.as_unique(session, text=text) is word
    await session.flush()
    del word
    words.clear()
    gc.collect()
    assert (await Word.as_unique(session, text="sun")).text == "sun"
    await session.rollback()


def test_values_that_cannot_be_compared() -> None:
    """What cannot be compared is not known to be alike."""
    one = Sly("a", "no comparison")
    assert is_alike(one, one)
    assert not is_alike(one, Sly("a", "no comparison"))
    assert not is_alike(Sly("a", "no truth"), Sly("a", "no truth"))


class Slyly(TypeDecorator[Any]):
    """A column whose values are texts with a life of their own."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> str | None:
        return getattr(value, "text", value)

    def process_result_value(self, value: str | None, _: object) -> Any:
        return None if value is None else Sly(value, "no comparison")


class Slippery(Base):
    __tablename__ = "sly"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[Any] = mapped_column(Slyly, unique=True)


@pytest.mark.usefixtures("folded")
@on_sqlite
@by_savepoint
async def test_sly_values(session: AsyncSession) -> None:
    """Nor do the values of a column."""
    for text in ("sun", "moon", "sun"):
        first = await Slippery.as_unique(session, text=text)
        await session.refresh(first)
        assert await Slippery.as_unique(session, text=text) is first
        sly = Sly(text, "no comparison")
        assert await Slippery.as_unique(session, text=sly) is first


@pytest.mark.parametrize("end", ["close", "rollback", "commit", "expunge_all"])
@pytest.mark.parametrize("place", ["defaults", "factory", "hash", "filter"])
@on_sqlite
@by_savepoint
async def test_sessions_that_end_inside(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, end: str, place: str
) -> None:
    """Whatever the caller's functions do to the session, its object is a live one."""
    async with sessions() as session:
        first = await Word.as_unique(session, text="first")
        ended: list[str] = []

        async def finish() -> str:
            if not ended:
                ended.append(end)
                done = getattr(session, end)()
                if done is not None:
                    await done
            return "finished"

        async def factory(**values: Any) -> Word:
            await finish()
            return Word(**values)

        given: dict[str, Any] = {"text": "sun"}
        if place == "defaults":
            given["defaults"] = {"note": finish}
        elif place == "factory":
            given["factory"] = factory
        else:

            def unique_hash(*, text: str) -> Hashable:
                session.sync_session.expunge_all()
                return text

            monkeypatch.setattr(Word, f"unique_{place}", unique_hash)
            if place == "filter":
                monkeypatch.setattr(
                    Word,
                    "unique_filter",
                    lambda *, text: [Word.text == unique_hash(text=text)],
                )
        try:
            word = await Word.as_unique(session, **given)
        except InvalidRequestError:
            # The guard has gone, and the call cannot go on without it.
            assert place == "factory"
            await session.rollback()
            word = await Word.as_unique(session, text="sun")
        assert word in session
        assert word.text == "sun"
        found = select(Word.id).filter_by(text="sun")
        assert await session.scalar(found) == word.id
        again = await Word.as_unique(session, text="first")
        is_there = first in session and not inspect(first).expired
        assert (again is first) or not is_there or place in {"hash", "filter"}
        found = select(Word.id).filter_by(text="first")
        assert await session.scalar(found) == again.id


@by_savepoint
async def test_long_texts_without_case(sessions: Sessions, folded: Any) -> None:
    """Texts of which only the beginning is compared are not taken for each other.

    Fails without `is_coarse` in `_is_outdated`.
    """
    one, other = "x" * 1_500 + "a", "x" * 1_500 + "b"
    async with sessions(expire_on_commit=False) as session, sessions() as rival:
        found = await folded.as_unique(session, text=one)
        await session.commit()
        assert await folded.as_unique(session, text=one) is found
        await rival.execute(update(folded).values(text=other))
        await rival.commit()
        # The object still says what it was, and is the one that the row is for.
        assert await folded.as_unique(session, text=other) is found
        again = await folded.as_unique(session, text=one)
        assert again is not found
        assert await folded.as_unique(session, text=other) is found
