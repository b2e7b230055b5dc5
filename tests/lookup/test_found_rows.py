"""What a row that was found looks like: its class, its locks, what is loaded."""

import gc
import weakref
from typing import Any

import pytest
from backends import Sessions, on_postgres
from models import (
    Animal,
    Author,
    Book,
    Cat,
    Employee,
    Person,
    Tag,
)
from sqlalchemy import ForeignKey, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    joinedload,
    mapped_column,
    registry,
    relationship,
    selectinload,
)
from sqlalchemy.sql.selectable import ForUpdateArg

from async_goc import Policy, get_or_create
from async_goc._lookup.plan import plan_for

pytestmark = pytest.mark.one_driver

unchecked = Policy(missing_constraint="ignore")


async def test_options(sessions: Sessions) -> None:
    """Loader options are honoured on the created object and on the found one."""
    load = [selectinload(Book.tags), selectinload(Book.author)]
    async with sessions.begin() as session:
        author_id = (await get_or_create(session, Author, name="Ann"))[0].id
    for expected in (True, False):
        async with sessions.begin() as session:
            book, created = await get_or_create(
                session, Book, author_id=author_id, title="one", options=load
            )
            assert created is expected
            assert book.tags == []
            assert book.author.name == "Ann"


@on_postgres
async def test_for_update(sessions: Sessions, engine: AsyncEngine) -> None:
    """The row is locked, and read anew; nothing pending is lost."""
    async with sessions.begin() as session:
        session.add(Tag(name="red"))
    async with sessions() as session:
        tag, _ = await get_or_create(session, Tag, name="red")
        async with engine.begin() as rival:
            await rival.execute(Tag.__table__.update().values(colour="new"))
        with session.no_autoflush:
            tag.slug = "mine"
            for how in (True, {"nowait": True}, ForUpdateArg(read=True)):
                same, created = await get_or_create(
                    session, Tag, name="red", with_for_update=how
                )
                assert (same is tag, created) == (True, False)
        assert (tag.colour, tag.slug) == ("new", "mine")
        async with sessions() as other:
            with pytest.raises(DBAPIError) as raised:
                await get_or_create(
                    other, Tag, name="red", with_for_update={"nowait": True}
                )
            assert getattr(raised.value.orig, "sqlstate", None) == "55P03"
        with pytest.raises(ValueError, match="skip_locked"):
            await get_or_create(
                session, Tag, name="red", with_for_update={"skip_locked": True}
            )


async def test_same_statement_each_time(session: AsyncSession) -> None:
    """The SQL text does not depend on the values, and is built once."""
    texts: set[str] = set()

    @event.listens_for(session.bind.sync_engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            texts.add(statement)

    for name in ("red", "green", "blue"):
        await get_or_create(session, Tag, name=name)
    assert len(texts) == 1
    assert plan_for(Tag, {"name": "x"}) is plan_for(Tag, {"name": "y"})
    assert plan_for(Tag, {"name": "x"}) is not plan_for(Tag, {"name": None})


def test_plans_go_with_their_model() -> None:
    """A model made at run time, and its plans, can be collected."""

    def make() -> weakref.ref[type[Any]]:
        class Temporary:
            pass

        mapping = registry()
        mapping.map_imperatively(
            Temporary, Tag.__table__.to_metadata(mapping.metadata, name="temporary")
        )
        plan_for(Temporary, {"name": "x"})
        mapping.dispose()
        return weakref.ref(Temporary)

    model = make()
    gc.collect()
    assert model() is None


async def test_joined_inheritance(session: AsyncSession) -> None:
    """The parent's unique constraint covers the subclass, whose columns are loaded."""
    _, created = await get_or_create(
        session, Employee, name="Ann", defaults={"badge": 7}
    )
    assert created
    await session.commit()
    session.expunge_all()
    person, created = await get_or_create(session, Person, name="Ann")
    assert isinstance(person, Employee)
    assert (person.badge, created) == (7, False)


async def test_single_table_inheritance(session: AsyncSession) -> None:
    """A row of another subclass holds the key, and is no lost race."""
    session.add(Animal(name="Tom"))
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(session, Cat, name="Tom")
    assert raised.value.__notes__
    session.add(Cat(name="Kit", lives=3))
    await session.flush()
    session.expunge_all()
    for _ in range(2):
        cat, created = await get_or_create(session, Animal, name="Kit")
        assert isinstance(cat, Cat)
        assert (cat.lives, created) == (3, False)


class Library(DeclarativeBase):
    """Authors and books, always loaded together."""


class Writer(Library):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Work"]] = relationship(lazy="joined")


class Work(Library):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str]


@pytest.mark.parametrize("by", ["the model", "an option", "a listener"])
async def test_joined_eager_loading(session: AsyncSession, by: str) -> None:
    """A join repeats the row for each member; it is one row all the same."""
    session.add(Author(name="Ann", books=[Book(title="one"), Book(title="two")]))
    await session.flush()
    session.expunge_all()
    model: type[Any] = Writer if by == "the model" else Author
    joined = joinedload(Author.books)

    @event.listens_for(session.sync_session, "do_orm_execute")
    def _join(state: ORMExecuteState) -> None:
        state.statement = state.statement.options(joined)

    if by != "a listener":
        event.remove(session.sync_session, "do_orm_execute", _join)
    options = [joined] if by == "an option" else []
    ann, created = await get_or_create(
        session, model, name="Ann", options=options, policy=unchecked
    )
    assert not created
    assert {book.title for book in ann.books} == {"one", "two"}
