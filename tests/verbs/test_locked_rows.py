"""Rows that are locked are read again, and nothing else in the session changes."""

import asyncio
from typing import Any, ClassVar

import pytest
from backends import Sessions, by_savepoint, on_postgres
from models import Author, Employee, Page, Person, Tag
from rivals import after_rival
from sqlalchemy import ForeignKey, event, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, mapped_column
from sqlalchemy.sql.selectable import ForUpdateArg

from async_goc import (
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

pytestmark = pytest.mark.one_driver

AB = [{"name": "a"}, {"name": "b"}]
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


async def locked(session: AsyncSession, verb: str, model: Any, **row: Any) -> object:
    if verb == "update_or_create_many":
        ((found, _),) = await update_or_create_many(session, model, [row], key="name")
    elif verb == "update_or_create":
        found, _ = await update_or_create(session, model, name=row["name"])
    else:
        found, _ = await get_or_create(
            session, model, name=row["name"], with_for_update=True
        )
    return found


@pytest.mark.parametrize(
    "verb", ["get_or_create", "update_or_create", "update_or_create_many"]
)
async def test_what_is_loaded_already(engine: AsyncEngine, verb: str) -> None:
    """All columns of a loaded row are read again; its collections stay."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        ann, _ = await get_or_create(session, Author, name="Ann")
        tag, _ = await get_or_create(session, Tag, name="a", defaults={"note": "old"})
        bob, _ = await get_or_create(session, Employee, name="Bob", badge=1)
        books = ann.books
        await session.commit()
        async with AsyncSession(engine) as rival, rival.begin():
            await rival.execute(update(Author).values(book_count=1))
            await rival.execute(update(Tag).values(colour="red", note="new"))
            await rival.execute(update(Employee).values(badge=2))
        assert await locked(session, verb, Author, name="Ann", book_count=1) is ann
        assert await locked(session, verb, Tag, name="a", colour="red") is tag
        assert await locked(session, verb, Person, name="Bob", kind="employee") is bob
        assert (ann.book_count, tag.colour, tag.note, bob.badge) == (1, "red", "new", 2)
        assert ann.books is books


@pytest.mark.parametrize(
    "verb", ["get_or_create", "update_or_create", "update_or_create_many"]
)
async def test_what_is_loaded_under_another_key(engine: AsyncEngine, verb: str) -> None:
    """A rival has renamed two rows crosswise: each is found by its new name."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        _a, _ = await get_or_create(session, Tag, name="a")
        b, _ = await get_or_create(session, Tag, name="b")
        await session.commit()
        async with AsyncSession(engine) as rival, rival.begin():
            for name, new in (("a", "c"), ("b", "a"), ("c", "b")):
                renaming = update(Tag).where(Tag.name == name)
                await rival.execute(renaming.values(name=new, colour=new))
        assert await locked(session, verb, Tag, name="a", colour="a") is b
        assert (b.name, b.colour) == ("a", "a")
        assert not session.dirty


@on_postgres
@pytest.mark.parametrize("verb", ["update_or_create", "update_or_create_many"])
async def test_who_looks_before_the_lock(engine: AsyncEngine, verb: str) -> None:
    """What a listener reads before the row is locked is not taken for its values."""
    async with (
        AsyncSession(engine, expire_on_commit=False) as session,
        AsyncSession(engine) as rival,
    ):
        page, _ = await get_or_create(session, Page, name="a")
        await session.commit()
        await rival.execute(update(Page).values(views=50))

        def note(asked: ORMExecuteState) -> None:
            if not asked.is_column_load:
                seen.append(page.views)

        seen: list[int] = []
        event.listen(session.sync_session, "do_orm_execute", note)
        values = {"name": "a", "views": 0}
        if verb == "update_or_create":
            asked: Any = update_or_create(session, Page, name="a", defaults=values)
        else:
            asked = update_or_create_many(session, Page, [values], key="name")
        asking = asyncio.create_task(asked)
        async with AsyncSession(engine) as other:
            while not await other.scalar(WAITING):
                pass
        await rival.commit()
        await asking
        await session.commit()
        assert seen
        assert await rival.scalar(select(Page.views)) == 0


@on_postgres
async def test_what_cannot_be_read_anew(engine: AsyncEngine) -> None:
    """What the session had loaded is as it was, and the transaction goes on."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        page, _ = await get_or_create(session, Page, name="a")
        await session.commit()

        def fail(_connection: object, _cursor: object, sql: str, *_: object) -> None:
            if "WHERE page.id =" in sql:
                fails.append(sql)
                msg = "as asked"
                raise ZeroDivisionError(msg)

        fails: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", fail)
        with pytest.raises(ZeroDivisionError):
            async with session.begin_nested():
                await update_or_create(session, Page, name="a")
        assert "FOR UPDATE" in fails[0]
        assert (page.name, page.views) == ("a", 0)
        event.remove(engine.sync_engine, "before_cursor_execute", fail)
        await update_or_create(session, Page, name="a", defaults={"views": 1})
        assert page.views == 1


@pytest.mark.parametrize("how", ["delete", "expunge"])
async def test_what_is_not_in_the_session_any_more(
    engine: AsyncEngine, how: str
) -> None:
    """Rows of a later chunk, or whose DELETE is pending: they are found, or made."""
    async with AsyncSession(engine, autoflush=False) as session:
        a, _ = await get_or_create(session, Tag, name="a")
        await get_or_create(session, Tag, name="b")
        if how == "delete":
            await session.delete(a)
        rows = [{**row, "colour": "red"} for row in AB]
        result = await update_or_create_many(
            *(session, Tag, rows),
            key="name",
            chunk_size=1,
            progress=lambda *_: session.expunge_all() if how == "expunge" else None,
        )
        assert [created for _, created in result] == [how == "delete", False]
        assert [tag.colour for tag, _ in result] == ["red", "red"]


async def test_loaded_deferred_columns(
    session: AsyncSession, statements: list[str]
) -> None:
    """Loaded deferred columns are read along with the others, not one by one."""
    names = [{"name": str(number), "note": "x"} for number in range(5)]
    tags = [tag for tag, _ in await get_or_create_many(session, Tag, names, key="name")]
    for tag in tags:
        await session.refresh(tag, ["note"])
    statements.clear()
    await update_or_create_many(session, Tag, names, key="name")
    assert statements == ["SELECT", "SAVEPOINT", "SELECT", "RELEASE"]
    assert [tag.note for tag in tags] == ["x"] * 5


@on_postgres
async def test_rows_that_cannot_be_locked(engine: AsyncEngine) -> None:
    """Rows that cannot be locked keep what the session has loaded of them."""
    async with (
        AsyncSession(engine, expire_on_commit=False) as session,
        AsyncSession(engine) as rival,
    ):
        tags = [tag for tag, _ in await get_or_create_many(session, Tag, AB)]
        await session.commit()
        await rival.execute(select(Tag).where(Tag.name == "b").with_for_update())
        await session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        rows = [{**row, "colour": "red"} for row in AB]
        with pytest.raises(DBAPIError):
            await update_or_create_many(session, Tag, rows, key="name")
        assert [tag.name for tag in tags] == ["a", "b"]
        assert session.in_transaction()


class Base(DeclarativeBase):
    """Tables that only this test has."""


class Creature(Base):
    """A base class that loads its subclasses inline, by an outer join."""

    __tablename__ = "creature"
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "creature",
        "with_polymorphic": "*",
    }

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)
    age: Mapped[int | None]


class Hound(Creature):
    __tablename__ = "hound"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "hound"}

    id: Mapped[int] = mapped_column(ForeignKey("creature.id"), primary_key=True)
    bark: Mapped[int | None]


@pytest.mark.parametrize("model", [Creature, Hound])
async def test_subclasses_that_are_loaded_inline(
    engine: AsyncEngine, sessions: Sessions, model: Any
) -> None:
    """The model's own tables are locked, and not the outer side of a join.

    Fails without `tables` in `_compile`: FOR UPDATE cannot be applied to that.
    """
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        async with sessions() as session:
            _, created = await update_or_create(session, model, name="new")
            assert created
            session.add(Hound(name="Rex", bark=1, age=1))
            await session.commit()
            for age in (2, 3):  # Not loaded, and then loaded.
                rex, created = await update_or_create(
                    session, model, name="Rex", defaults={"age": age}
                )
                assert (type(rex), created) == (Hound, False)
                assert (rex.bark, rex.age) == (1, age)
            await session.rollback()
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)


@on_postgres
@by_savepoint
@pytest.mark.parametrize("how", [True, {}, {"read": True}, ForUpdateArg()])
async def test_rivals_row_is_locked(
    engine: AsyncEngine, session: AsyncSession, how: Any
) -> None:
    """What a lost race finds is locked, however the caller says so."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        sent.append(sql)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    rival = after_rival(engine, Tag(name="a"))
    locking: Any = {"with_for_update": how}
    _, created = await get_or_create(session, Tag, name="a", defaults=rival, **locking)
    assert not created
    assert " FOR " in sent[-1]
