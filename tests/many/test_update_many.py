"""update_or_create_many: which values which rows get."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from backends import on_postgres, on_sqlite
from models import Page
from rivals import rival
from rows import count, named
from sqlalchemy import ForeignKey, delete, event, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.util import await_only

from async_goc import (
    Event,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create_many,
)
from async_goc.exceptions import (
    UnknownFieldError,
)

pytestmark = pytest.mark.one_driver


async def test_update(session: AsyncSession) -> None:
    """Existing rows get the named values, and new ones all of them."""
    await get_or_create_many(
        session,
        Page,
        [{"name": n, "text": "old", "likes": 1} for n in "ab"],
        key="name",
    )
    rows = [{"name": n, "text": "new", "likes": 2} for n in "bca"]
    result = await update_or_create_many(
        session, Page, rows, key="name", update=["text"], defaults={"views": 9}
    )
    pages = {page.name: page for page, _ in result}
    assert [created for _, created in result] == [False, True, False]
    assert [
        (p.text, p.likes, p.views, p.changes) for p in map(pages.get, "abc") if p
    ] == [
        ("new", 1, 0, 1),
        ("new", 1, 0, 1),
        ("new", 2, 9, 0),
    ]
    await update_or_create_many(session, Page, [{"name": "a", "likes": 5}], key="name")
    assert (pages["a"].likes, pages["a"].text) == (5, "new")
    events: list[Event] = []
    await update_or_create_many(
        session,
        Page,
        [{"name": "a", "likes": 6}],
        update=[],
        policy=Policy(observer=events.append),
    )
    assert pages["a"].likes == 5
    await update_or_create_many(
        session,
        Page,
        [{"name": "a", "likes": 6, "id": pages["a"].id}],
        key="name",
        policy=Policy(observer=events.append),
    )
    assert pages["a"].likes == 6
    assert [event.outcome for event in events] == ["hit", "updated"]


@on_sqlite
@pytest.mark.parametrize(
    ("update", "error"),
    [(["name"], ValueError), (["id"], ValueError), (["x"], UnknownFieldError)],
)
async def test_what_cannot_be_updated(
    session: AsyncSession,
    statements: list[str],
    update: list[str],
    error: type[Exception],
) -> None:
    """The key, the primary key, and what is no attribute: refused before any SQL."""
    with pytest.raises(error):
        await update_or_create_many(session, Page, named("a"), update=update)
    assert statements == []


async def test_update_fails(session: AsyncSession) -> None:
    """All that the call has done is undone, objects included; the note says so."""
    pages = await update_or_create_many(session, Page, named(*"abc"))
    await get_or_create(session, Page, name="z", defaults={"slug": "taken"})
    rows = [
        {"name": "a", "slug": "free"},
        {"name": "b", "slug": "taken"},
        {"name": "new", "slug": "x"},
    ]
    with pytest.raises(IntegrityError) as raised:
        await update_or_create_many(session, Page, rows, key="name", chunk_size=1)
    assert "this call has been undone" in raised.value.__notes__[0]
    assert [page.slug for page, _ in pages] == [None] * 3
    assert not session.dirty
    assert await count(session, Page) == 4


@contextmanager
def before_locking(engine: AsyncEngine, *rivals: Any) -> Iterator[None]:
    """Have a rival execute and commit the statements *rivals*."""
    left = list(rivals)

    def strike(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if "FOR UPDATE" in sql and left:
            await_only(execute())

    async def execute() -> None:
        async with AsyncSession(engine) as other, other.begin():
            while left:
                await other.execute(left.pop(0))

    event.listen(engine.sync_engine, "before_cursor_execute", strike)
    yield
    event.remove(engine.sync_engine, "before_cursor_execute", strike)
    assert not left


@on_postgres
async def test_update_of_a_row_that_was_deleted(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A row that is deleted between the look and the lock is created again."""
    await rival(engine, Page(name="a"), Page(name="b", text="stays"))()
    rows = [{"name": n, "likes": 3} for n in "ab"]
    with before_locking(engine, delete(Page).where(Page.name == "a")):
        result = await update_or_create_many(session, Page, rows, key="name")
    assert [(p.likes, p.text, created) for p, created in result] == [
        (3, None, True),
        (3, "stays", False),
    ]


@on_postgres
async def test_deleted_row_of_a_class_that_loads_inline(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """It is looked for under a lock on its own table alone.

    Fails without `is_updating` in `_new_row`.
    """

    class Base(DeclarativeBase):
        pass

    class Pet(Base):
        __tablename__ = "pet"
        __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind"} | {
            "polymorphic_identity": "pet",
            "with_polymorphic": "*",
        }
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        name: Mapped[str] = mapped_column(unique=True)
        age: Mapped[int | None]

    class Parrot(Pet):
        __tablename__ = "parrot"
        __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "parrot"}
        id: Mapped[int] = mapped_column(ForeignKey("pet.id"), primary_key=True)

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        await rival(engine, Pet(name="a"))()
        rows = [{"name": "a", "age": 3}]
        with before_locking(engine, delete(Pet.__table__)):
            ((pet, created),) = await update_or_create_many(session, Pet, rows)
        assert (pet.age, created) == (3, True)
    finally:
        await session.rollback()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)


@on_postgres
async def test_update_of_a_row_that_was_renamed(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The row that has the name by the time of the lock is the one updated."""
    await rival(engine, Page(name="a"), Page(name="b"))()
    a, b = (await session.scalars(select(Page).order_by(Page.name))).all()
    strikes = [
        update(Page).where(Page.name == old).values(name=new, text=new)
        for old, new in (("a", "c"), ("b", "a"))
    ]
    rows = [{"name": "a", "likes": 3}]
    with before_locking(engine, *strikes):
        assert await update_or_create_many(session, Page, rows) == [(b, False)]
    assert (b.name, b.likes, b.text) == ("a", 3, "a")
    assert (a.name, a.likes, a.text) == ("a", 0, None)  # as it was
    assert not session.dirty


async def test_updates_lose_nothing(engine: AsyncEngine) -> None:
    """Tasks that update overlapping rows in different orders lose no update."""
    sessions = async_sessionmaker(engine)

    async def work(column: str, names: str) -> None:
        for number in range(1, 13):
            async with sessions.begin() as session:
                rows = [{"name": name, column: number} for name in names]
                result = await update_or_create_many(
                    session, Page, rows, key="name", chunk_size=2
                )
                for page, _ in result:
                    page.total += 1

    await asyncio.gather(work("views", "abcde"), work("likes", "edcba"))
    async with sessions() as session:
        pages = (await session.scalars(select(Page))).all()
    assert [(p.views, p.likes, p.total) for p in pages] == [(12, 12, 24)] * 5
