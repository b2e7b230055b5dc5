"""One object per key and session, and never a dead one."""

import gc
from collections.abc import AsyncIterator, Hashable, Mapping
from typing import Any
from weakref import WeakSet

import pytest
from backends import Sessions
from sqlalchemy import (
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    String,
    TypeDecorator,
    UniqueConstraint,
    delete,
    func,
    insert,
    inspect,
    select,
    text as sql_text,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    relationship,
    selectinload,
)

from async_goc import Event, Policy, UniqueMixin
from async_goc.exceptions import ContradictionError, UnknownFieldError


class Base(UniqueMixin, DeclarativeBase):
    pass


class Word(Base):
    __tablename__ = "word"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str | None]
    forms: Mapped[list["Form"]] = relationship(back_populates="word")
    others: Mapped[list["Form"]] = relationship(overlaps="forms, word")

    def __bool__(self) -> bool:
        return False


class Form(Base):
    __tablename__ = "form"
    __table_args__ = (UniqueConstraint("word_id", "case"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    word_id: Mapped[int | None] = mapped_column(ForeignKey("word.id"))
    case: Mapped[str]
    word: Mapped[Word | None] = relationship(back_populates="forms", overlaps="others")


class User(Base):
    """Unique whatever the case of its address."""

    __tablename__ = "person_with_address"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str | None]

    @classmethod
    def unique_hash(cls, *, email: str, **_: Any) -> Hashable:
        return email.lower()

    @classmethod
    def unique_filter(cls, *, email: str, **_: Any) -> ColumnElement[bool]:
        return func.lower(cls.email) == email.lower()


Index("ix_address", func.lower(User.email), unique=True)


class Watched(Base):
    """Found by SQL of more than its columns."""

    __tablename__ = "watched"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)

    @hybrid_property
    def shout(self) -> str:
        return self.text.upper()

    @classmethod
    def unique_filter(cls, *, text: str, **_: Any) -> list[ColumnElement[bool]]:
        return [cls.text == text, sql_text("1 = 1")]


class Parts(TypeDecorator[Any]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> str | None:
        return "/".join(value)

    def process_result_value(self, value: str | None, _: object) -> Any:
        return value and value.split("/")


class Path(Base):
    __tablename__ = "path"

    id: Mapped[int] = mapped_column(primary_key=True)
    parts: Mapped[Any] = mapped_column(Parts, unique=True)


class Alias(Base):
    """Stored in one case only."""

    __tablename__ = "alias"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)

    @classmethod
    def unique_filter(cls, *, name: str) -> list[ColumnElement[bool]]:
        return [cls.name == name.lower()]


@pytest.fixture(autouse=True)
async def tables(engine: AsyncEngine) -> AsyncIterator[None]:
    def make(connection: Connection) -> None:
        Base.metadata.create_all(connection)

    def drop(connection: Connection) -> None:
        Base.metadata.drop_all(connection)

    async with engine.begin() as connection:
        await connection.run_sync(make)
    yield
    async with engine.begin() as connection:
        await connection.run_sync(drop)


async def ask(session: AsyncSession, text: str = "sun") -> Word:
    return await Word.as_unique(session, text=text)


async def test_the_second_call_costs_nothing(
    session: AsyncSession, statements: list[str]
) -> None:
    """The same object, without SQL; also one that was found, and a falsy one."""
    word = await Word.as_unique(session, text="sun", defaults={"note": "first"})
    statements.clear()
    again = await Word.as_unique(session, text="sun", defaults={"note": "second"})
    assert again is word
    assert word.note == "first"
    assert statements == []
    await session.commit()
    await session.refresh(word)
    statements.clear()
    assert await ask(session) is word
    assert statements == []


async def test_outcomes(session: AsyncSession) -> None:
    """One event for each call."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    words = [
        await Word.as_unique(session, text="sun", policy=policy, options=options)
        for options in ((), (), (selectinload(Word.forms),))
    ]
    assert words[0] is words[1] is words[2]
    assert {event.verb for event in events} == {"as_unique"}
    assert [event.outcome for event in events] == ["created", "cached", "hit"]


async def test_rollback(session: AsyncSession) -> None:
    """What was created is not there any more."""
    word = await ask(session)
    await session.rollback()
    again = await ask(session)
    assert again is not word
    assert inspect(again).persistent


async def test_rollback_of_a_savepoint(session: AsyncSession) -> None:
    """Created inside, or only found inside: either is gone with it.

    Fails without `_on_rollback` for the one that was found.
    """
    for make in (ask, _insert_and_ask):
        savepoint = await session.begin_nested()
        word = await make(session)
        await savepoint.rollback()
        again = await ask(session)
        assert again is not word
        assert await session.scalar(select(func.count(Word.id))) == 1
        await session.delete(again)
        await session.flush()


async def _insert_and_ask(session: AsyncSession) -> Word:
    await session.execute(insert(Word.__table__).values(id=99, text="sun"))
    return await ask(session)


async def test_commit_that_expires(sessions: Sessions, statements: list[str]) -> None:
    """The row may have changed since: it is asked for again, and readable."""
    async with sessions() as session:
        word = await ask(session)
        await session.commit()
        statements.clear()
        assert await ask(session) is word
        assert statements == ["SELECT"]
        assert word.text == "sun"


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_delete(session: AsyncSession, *, is_flushed: bool) -> None:
    """A deleted object is not handed out, flushed or not."""
    word = await ask(session)
    await session.delete(word)
    if is_flushed:
        await session.flush()
    again = await ask(session)
    assert again is not word
    assert again in session


async def test_delete_by_statement(session: AsyncSession) -> None:
    """Nor one whose row a statement has deleted."""
    word = await ask(session)
    await session.execute(delete(Word))
    assert await ask(session) is not word


@pytest.mark.parametrize("end", ["expunge", "expunge_all", "close"])
async def test_out_of_the_session(session: AsyncSession, end: str) -> None:
    """A detached object is not this session's."""
    word = await ask(session)
    await session.commit()
    await session.refresh(word)
    if end == "expunge":
        session.expunge(word)
    elif end == "expunge_all":
        session.expunge_all()
    else:
        await session.close()
    again = await ask(session)
    assert again is not word
    assert again in session


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_changed_key(session: AsyncSession, *, is_flushed: bool) -> None:
    """It is another key's object by then."""
    word = await ask(session)
    word.text = "moon"
    if is_flushed:
        await session.flush()
    again = await ask(session)
    assert again is not word
    assert (word.text, again.text) == ("moon", "sun")
    assert await ask(session, "moon") is word


@pytest.mark.parametrize("by", ["word", "word_id"])
async def test_changed_parent(session: AsyncSession, by: str) -> None:
    """A parent that was set anew changes the key in the next flush."""
    sun, moon = await ask(session), await ask(session, "moon")
    key = {"case": "plural", by: sun if by == "word" else sun.id}
    form = await Form.as_unique(session, **key)
    assert await Form.as_unique(session, **key) is form
    form.word = moon
    again = await Form.as_unique(session, **key)
    assert again is not form
    assert (again.word_id, form.word_id) == (sun.id, moon.id)


async def test_expired_key(session: AsyncSession, statements: list[str]) -> None:
    """One that would have to be read is asked for."""
    word = await ask(session)
    session.expire(word, ["text"])
    statements.clear()
    assert await ask(session) is word
    assert statements == ["SELECT"]
    assert word.text == "sun"


async def test_column_that_is_not_loaded(
    session: AsyncSession, statements: list[str]
) -> None:
    """All columns can be read of what is returned."""
    word = await Word.as_unique(session, text="sun", defaults={"note": "n"})
    session.expire(word, ["note"])
    statements.clear()
    assert await ask(session) is word
    assert word.note == "n"
    assert statements == ["SELECT"]


async def test_collection_that_changes_the_key(session: AsyncSession) -> None:
    """A parent's collection does, in the next flush."""
    sun, moon = await ask(session), await ask(session, "moon")
    form = await Form.as_unique(session, word_id=sun.id, case="plural")
    moon.others.append(form)
    again = await Form.as_unique(session, word_id=sun.id, case="plural")
    assert again is not form
    assert form.word_id == moon.id


async def test_parents_are_not_kept_alive(session: AsyncSession) -> None:
    """Nor is, with a parent, all that it refers to."""
    word = await ask(session)
    await Form.as_unique(session, word=word, case="plural")
    assert len(session.info["async_goc.unique"]) == 2
    await session.commit()
    del word
    gc.collect()
    assert not session.info["async_goc.unique"]


async def test_what_cannot_be_watched(
    session: AsyncSession, statements: list[str]
) -> None:
    """A row found by more than its own columns is asked for each time."""
    for number in range(2):
        word = await Watched.as_unique(session, text="sun", shout="SUN")
        assert statements.count("SELECT") == number + 1
    assert word.text == "sun"


async def test_values_that_may_change_in_place(
    session: AsyncSession, statements: list[str]
) -> None:
    """Such a key is asked for: nobody would see it change."""
    path = await Path.as_unique(session, parts=("a", "b"))
    await session.commit()
    for number in range(1, 3):
        await session.refresh(path)
        statements.clear()
        assert await Path.as_unique(session, parts=("a", "b")) is path
        assert path.parts == ["a", "b"]
        assert statements == ["SELECT"], number


async def test_the_entry_of_another(
    session: AsyncSession, statements: list[str]
) -> None:
    """An object that goes takes its own entry along, and no other's."""
    word = await ask(session)
    await session.flush()
    session.expunge(word)
    again = await ask(session)
    del word
    gc.collect()
    statements.clear()
    assert await ask(session) is again
    assert statements == []


async def test_contradiction(session: AsyncSession) -> None:
    """A default against what is looked up, where criteria stand for it."""
    with pytest.raises(ContradictionError):
        await User.as_unique(session, email="a@b.c", defaults={"email": "x@y.z"})
    user = await User.as_unique(session, email="a@b.c", defaults={"email": "a@b.c"})
    assert user.email == "a@b.c"


async def test_other_changes_do_not_matter(
    session: AsyncSession, statements: list[str]
) -> None:
    """They are not part of the key."""
    word = await ask(session)
    word.note = "changed"
    statements.clear()
    assert await ask(session) is word
    assert statements == []


async def test_nothing_is_kept_alive(session: AsyncSession) -> None:
    """1,000 keys: their objects go when nobody else has them, and the entries, too."""
    alive: WeakSet[Word] = WeakSet()
    mine = await ask(session)
    for number in range(1_000):
        alive.add(await ask(session, f"word {number}"))
    # The transaction remembers what is new in it, weakly.
    gc.collect()
    assert len(alive) == 0
    assert len(session.info["async_goc.unique"]) == 1
    assert await ask(session) is mine


async def test_a_key_of_its_own(session: AsyncSession, statements: list[str]) -> None:
    """unique_filter finds the row, unique_hash the object; the row gets the lookup."""
    ann = await User.as_unique(session, email="Ann@b.C", defaults={"name": "Ann"})
    assert (ann.email, ann.name) == ("Ann@b.C", "Ann")
    statements.clear()
    assert await User.as_unique(session, email="aNN@B.c") is ann
    assert statements == []
    ann.email = "other@b.c"
    again = await User.as_unique(session, email="ann@b.c")
    assert again is not ann

    async def defaults() -> Mapping[str, Any]:
        return {"name": "Bob"}

    bob = await User.as_unique(session, email="Bob@b.c", defaults=defaults)
    assert (bob.email, bob.name) == ("Bob@b.c", "Bob")


async def test_criteria_that_feed_the_row(session: AsyncSession) -> None:
    """What they give a column goes before what was looked up."""
    alias = await Alias.as_unique(session, name="Zed")
    assert alias.name == "zed"
    assert await Alias.as_unique(session, name="ZED") is alias


async def test_values_without_a_hash(session: AsyncSession) -> None:
    """Nothing is kept for them; they are asked for each time."""

    class Text(str):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

    word = await ask(session, Text("sun"))
    assert await ask(session, Text("sun")) is word
    assert "async_goc.unique" not in session.info


async def test_a_session_each(sessions: Sessions) -> None:
    """Another session has an object of its own."""
    async with sessions.begin() as session:
        word = await ask(session)
    async with sessions() as session:
        assert await ask(session) is not word


async def test_wrong_arguments(session: AsyncSession, statements: list[str]) -> None:
    """They fail before any SQL."""
    with pytest.raises(UnknownFieldError):
        await Word.as_unique(session, txt="sun")
    with pytest.raises(ValueError, match="no lookup"):
        await Word.as_unique(session)
    assert statements == []
    with pytest.raises(NotImplementedError):
        Word.unique_filter(text="sun")
