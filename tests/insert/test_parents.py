"""A native INSERT stores a persistent parent in the columns of its foreign key."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from backends import MARIADB, POSTGRES, on_postgres, on_sqlite
from models import Author, Book, Desk, Letter, Page, Pen
from rivals import after_rival
from sqlalchemy import ForeignKey, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
    selectinload,
    validates,
)

from async_goc import Event, Policy, get_or_create

Given = Callable[[Author], dict[str, Any]]

everywhere = pytest.mark.parametrize(
    "backend", ["sqlite+aiosqlite", POSTGRES[0], MARIADB[0]], indirect=True
)


class Base(DeclarativeBase):
    pass


class Writer(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    book_count: Mapped[int] = mapped_column(default=0)
    books: Mapped[list["Novel"]] = relationship(back_populates="writer")

    @validates("books")
    def check(self, _: str, novel: "Novel") -> "Novel":
        return novel


class Novel(Base):
    """Its parent hears of it."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    writer: Mapped[Writer] = relationship(back_populates="books")
    # It goes wherever the row goes.
    owner: Mapped[Writer] = relationship(cascade="all", overlaps="books,writer")


class Sheet(MappedAsDataclass, Base, kw_only=True):
    """Its constructor does not do without the parent."""

    __tablename__ = "letter"

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    name: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), init=False)
    author: Mapped[Writer] = relationship()


class Chapter(Base):
    """Its own key is its parent's."""

    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(
        ForeignKey("author.id"), primary_key=True, default=1
    )
    name: Mapped[str]
    author: Mapped[Writer | None] = relationship()


class Mark(Base):
    """Its own key is made of two parents'."""

    __tablename__ = "book_tag"

    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), primary_key=True)
    novel: Mapped[Novel] = relationship()
    chapter: Mapped[Chapter] = relationship()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


async def persistent(session: AsyncSession, model: type[Any] = Author) -> Any:
    """An author of whom the session knows nothing but the columns."""
    session.add(model(name="ann"))
    await session.flush()
    session.expunge_all()
    return (await session.scalars(select(model))).one()


async def create(
    session: AsyncSession, model: type[Any], strategy: Any, **call: Any
) -> tuple[Any, str]:
    """Create a row; say how."""
    events: list[Event] = []
    policy = Policy(
        strategy=strategy, missing_constraint="ignore", observer=events.append
    )
    made, created = await get_or_create(session, model, policy=policy, **call)
    assert created
    return made, events[0].strategy


@everywhere
@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Book, lambda ann: {"author": ann, "title": "x"}),
        (Book, lambda ann: {"title": "x", "defaults": {Book.author: lambda: ann}}),
        (Pen, lambda ann: {"author": ann, "colour": "red"}),
        (Pen, lambda _: {"author": None, "colour": "red"}),
        (Letter, lambda ann: {"author": ann, "name": "x"}),
        (Page, lambda ann: {"name": "x", "defaults": {"author": ann, "slug": "x"}}),
    ],
    ids=["lookup", "lazy default", "keyed", "none", "write only", "eager"],
)
async def test_a_parent_with_a_row(
    session: AsyncSession, model: type[Any], given: Given
) -> None:
    """The row, its state, and what the parent shows later are as from a flush.

    Fails without `as_columns` in `_insert`.
    """
    seen: list[Any] = []
    for strategy in ("savepoint", "native"):
        ann = await persistent(session)
        made, used = await create(session, model, strategy, **given(ann))
        assert used == strategy
        state: Any = inspect(made)
        is_hers = made.author is ann
        assert made.author_id == (ann.id if is_hers else None)
        assert state.persistent
        assert not session.dirty
        assert "books" in inspect(ann).unloaded
        loading = selectinload(Author.books), selectinload(Author.pens)
        await session.scalars(select(Author).options(*loading))
        members = [*ann.books, *ann.pens.values()]
        assert (made in members) is (is_hers and model in {Book, Pen})
        unloaded = state.unloaded.difference(state.mapper.column_attrs.keys())
        seen.append((is_hers, unloaded, state.expired_attributes))
        await session.rollback()
        assert inspect(made).transient
    assert seen[0] == seen[1]


@everywhere
async def test_a_row_between_two_parents(session: AsyncSession) -> None:
    """Its key is made of theirs; a pending one gets its own key before."""
    ann = await persistent(session, Writer)
    novel = Novel(title="x", author_id=ann.id)
    chapter = Chapter(id=ann.id, name="y")
    session.add_all([novel, chapter])
    mark, used = await create(session, Mark, "native", novel=novel, chapter=chapter)
    assert used == "native"
    assert (mark.novel, mark.chapter) == (novel, chapter)
    key = mark.book_id, mark.tag_id
    assert key == (novel.id, chapter.id)
    assert await session.get(Mark, key) is mark


@on_postgres
async def test_losing_a_race_for_a_parent(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The parent has no trace of the row that was not inserted."""
    ann = await persistent(session)
    await session.commit()
    await session.refresh(ann)
    rival = after_rival(engine, Book(author_id=ann.id, title="x"))
    policy = Policy(strategy="native")
    book, created = await get_or_create(
        session, Book, author=ann, title="x", defaults=rival, policy=policy
    )
    assert (created, book.author is ann) == (False, True)
    assert not session.new
    assert not session.dirty
    assert "books" in inspect(ann).unloaded


@on_sqlite
@pytest.mark.parametrize(
    ("model", "given", "reason"),
    [
        (
            Book,
            lambda _: {"title": "x", "defaults": {"author": Author(name="bob")}},
            "is not",
        ),
        (Desk, lambda ann: {"author": ann}, "relationships"),
        (Novel, lambda ann: {"title": "x", "writer": ann}, "to the books of"),
        (Novel, lambda ann: {"title": "x", "owner": ann}, "relationships"),
        (Sheet, lambda ann: {"name": "x", "author": ann}, "relationships"),
        (Chapter, lambda _: {"name": "x", "defaults": {"author": None}}, "its key"),
        (
            Book,
            lambda ann: {"author": ann, "author_id": ann.id, "title": "x"},
            "one column",
        ),
    ],
    ids=["transient", "one", "validator", "cascade", "argument", "key", "twice"],
)
async def test_parents_that_need_a_flush(
    session: AsyncSession,
    model: type[Any],
    given: Given,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a flush would do beyond the foreign key is left to it."""
    caplog.set_level(logging.DEBUG, "async_goc")
    ann = await persistent(session, Author if model in {Book, Desk} else Writer)
    made, used = await create(session, model, "native", **given(ann))
    assert used == "savepoint"
    assert reason in caplog.text
    assert inspect(made).persistent


@on_sqlite
@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Book.author, "set"),
        (Author.books, "append"),
        (Book, "init"),
        (Author, "before_update"),
        (Author, "after_update"),
    ],
    ids=["set", "append", "init", "before", "after"],
)
async def test_listening_to_a_relationship(
    session: AsyncSession, target: Any, name: str
) -> None:
    """Those that listen to it are told of the new row, as by a flush.

    Fails without `_UPDATE_EVENTS` in `_obstacles_to`.
    """
    heard: list[object] = []

    def hear(*given: object, **_: object) -> None:
        heard.append(given)

    ann = await persistent(session)
    event.listen(target, name, hear)
    try:
        _, used = await create(session, Book, "native", author=ann, title="x")
    finally:
        event.remove(target, name, hear)
    assert used == "savepoint"
    assert heard
    _, used = await create(session, Book, "native", author=ann, title="y")
    assert used == "native"


@everywhere
async def test_a_loaded_collection(session: AsyncSession) -> None:
    """It shows the created row.

    Fails without `collection` in `_obstacles_to`.
    """
    ann = await persistent(session)
    await session.refresh(ann, ["books"])
    book, used = await create(session, Book, "native", author=ann, title="x")
    assert used == "savepoint"
    assert ann.books == [book]


@on_sqlite
@pytest.mark.parametrize(
    ("model", "kind", "given"),
    [(Book, Author, {"title": "x"}), (Chapter, Writer, {"name": "x"})],
    ids=["with a collection", "without"],
)
async def test_an_expired_parent(
    session: AsyncSession, model: type[Any], kind: type[Any], given: dict[str, Any]
) -> None:
    """It is loaded, as by a flush.

    Fails without `expired` in `_obstacles_to`.
    """
    ann = await persistent(session, kind)
    session.expire(ann)
    made, used = await create(session, model, "native", author=ann, **given)
    assert used == "savepoint"
    assert made.author.name == "ann"
