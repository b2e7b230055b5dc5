"""Many rows by their primary keys alone: nothing is built, and nothing is loaded."""

from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from backends import on_postgres
from models import Animal, Author, Book, BookTag, Cat, Employee, Pen, Person, Tag
from rivals import on_lost, rival
from rows import count, id_of, named
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    mapped_column,
    with_loader_criteria,
)

from async_goc import (
    Event,
    GetOrCreator,
    Policy,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
)

pytestmark = pytest.mark.one_driver


async def test_keys_and_flags(
    engine: AsyncEngine, session: AsyncSession, statements: list[str]
) -> None:
    """In the order of the input; equal keys have one answer, which is new once."""
    await rival(engine, Tag(name="m"))()
    rows = [{"name": "z", "colour": "first"}, *named("m", "a"), {"name": "z"}]
    events: list[Event] = []
    policy = Policy(observer=events.append)
    statements.clear()
    result = await get_or_create_ids(session, Tag, rows, key="name", policy=policy)
    assert statements == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]
    assert [created for _, created in result] == [True, False, True, False]
    assert not session.identity_map
    statements.clear()
    again = await get_or_create_ids(session, Tag, iter(rows), policy=policy)
    assert again == [(key, False) for key, _ in result]
    assert statements == ["SELECT"]
    assert [(e.verb, e.outcome, e.strategy) for e in events] == [
        ("get_or_create_ids", "created", "native"),
        ("get_or_create_ids", "hit", "savepoint"),
    ]
    found = await session.execute(sa.select(Tag.id, Tag.name, Tag.colour))
    assert {tuple(row) for row in found} == {
        (result[0][0], "z", "first"),
        (result[1][0], "m", None),
        (result[2][0], "a", None),
    }


async def test_composite_keys(session: AsyncSession) -> None:
    """They are tuples, as the session's get() takes them."""
    book = Book(author=Author(name="Ann"), title="t")
    session.add(book)
    tags = await get_or_create_ids(session, Tag, ["a", "b"], key="name")
    rows = [{"tag_id": tag, "book_id": book.id} for tag, _ in tags]
    for expected in (True, False):
        result = await get_or_create_ids(session, BookTag, rows)
        assert result == [((book.id, tag), expected) for tag, _ in tags]
    assert type(result[0][0]) is tuple
    assert (await session.get_one(BookTag, result[0][0])).tag_id == tags[0][0]


async def test_row_of_another_class(session: AsyncSession) -> None:
    """A row of another class in the same table is none of this class's.

    Fails without `key` in `_key_of`.
    """
    session.add(Animal(name="rex"))
    await session.flush()
    for verb in (get_or_create_ids, get_or_create_many):
        with pytest.raises(IntegrityError):
            await verb(session, Cat, ["rex"], key="name")


class Base(DeclarativeBase): ...


class Numbered(Base):
    __tablename__ = "key_is_number"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Unique(Base):
    __tablename__ = "key_is_uuid"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)


class Spelled(Base):
    __tablename__ = "key_is_text"
    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: str(uuid4()))
    name: Mapped[str] = mapped_column(unique=True)


class Negative(sa.TypeDecorator[int]):
    """Is another number to the application than to the database."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> Any:
        return -value

    def column_expression(self, column: Any) -> Any:
        return -sa.type_coerce(column, sa.Integer)


class Negated(Base):
    __tablename__ = "key_is_negative"
    id: Mapped[int] = mapped_column(
        Negative, primary_key=True, server_default=sa.Identity()
    )
    name: Mapped[str] = mapped_column(unique=True)


@on_postgres
@pytest.mark.parametrize("model", [Numbered, Unique, Spelled, Negated])
async def test_found_in_one_array(
    engine: AsyncEngine, session: AsyncSession, model: Any
) -> None:
    """Numbers and UUIDs are read as one array, and any other key as a column.

    Fails without `cast` in `_array_of`, on psycopg: it does not know arrays of domains.
    """
    connection = await session.connection()
    await connection.run_sync(Base.metadata.create_all)
    await connection.exec_driver_sql("CREATE DOMAIN number AS bigint")
    await connection.exec_driver_sql("ALTER TABLE key_is_number ALTER id TYPE number")
    created = await get_or_create_ids(session, model, ["a", "b"], key="name")
    texts: list[str] = []
    event.listen(
        *(engine.sync_engine, "before_cursor_execute"),
        lambda *given: texts.append(given[2]),
    )
    found = await get_or_create_ids(session, model, ["b", "c", "a"], key="name")
    assert [key for key, _ in found[::2]] == [key for key, _ in created[::-1]]
    assert found[1][1]
    assert (await session.get_one(model, found[1][0])).name == "c"
    assert ("array_agg" in texts[0]) == (model in {Numbered, Unique})


async def test_criteria_of_the_session(session: AsyncSession) -> None:
    """What a listener adds to each SELECT counts for these, too.

    Fails without `_repeats` in `_statements`, on PostgreSQL: an array has no hash.
    """
    await get_or_create_ids(session, Tag, ["seen", "hidden"], key="name")

    def hide(state: ORMExecuteState) -> None:
        seen = with_loader_criteria(Tag, Tag.name != "hidden")
        state.statement = state.statement.options(seen)

    event.listen(session.sync_session, "do_orm_execute", hide)
    with pytest.raises(IntegrityError):
        await get_or_create_ids(session, Tag, ["seen", "hidden"], key="name")
    event.remove(session.sync_session, "do_orm_execute", hide)
    assert await count(session) == 2


async def test_what_is_loaded_stays_as_it_was(
    session: AsyncSession, statements: list[str]
) -> None:
    """Nothing is refreshed, nothing expires, and no listener hears of an instance."""
    (old, _), (stale, _) = await get_or_create_many(session, Tag, named("a", "b"))
    session.expire(stale)
    await session.execute(sa.update(Tag.__table__).values(colour="new"))
    heard: list[object] = []

    def note(*given: object) -> None:
        heard.append(given)

    listened = [(Tag, "load", note), (Tag, "refresh", note)]
    for each in listened:
        event.listen(*each)
    statements.clear()
    result = await get_or_create_ids(session, Tag, named("a", "b", "c"))
    for each in listened:
        event.remove(*each)
    assert [created for _, created in result] == [False, False, True]
    assert statements == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]
    assert (heard, old.colour, "colour" in vars(stale)) == ([], None, False)
    assert result[0][0] == old.id


@pytest.mark.parametrize("model", [Person, Employee, Cat])
async def test_models_of_several_classes(session: AsyncSession, model: Any) -> None:
    """A row is found as one of its class, or of any above it; new ones are not kept."""
    rows: list[dict[str, Any]] = [
        {"name": name} | ({"badge": number} if model is Employee else {})
        for number, name in enumerate("cab")
    ]
    for expected in (True, False):
        result = await get_or_create_ids(session, model, rows, key="name")
        assert [created for _, created in result] == [expected] * 3
        assert not session.identity_map
    names = [(await session.get_one(model, key)).name for key, _ in result]
    assert names == ["c", "a", "b"]
    if model is Employee:
        assert result == await get_or_create_ids(session, Person, named(*"cab"))


async def test_unit_of_work(session: AsyncSession) -> None:
    """New objects are kept where something refers to them: a loaded collection."""
    ann = Author(name="Ann")
    session.add(ann)
    await session.flush()
    await session.refresh(ann, ["pens"])
    rows = [{"author": ann, "colour": colour} for colour in ("red", "blue")]
    result = await get_or_create_ids(session, Pen, rows)
    assert [created for _, created in result] == [True, True]
    assert [ann.pens[row["colour"]].id for row in rows] == [key for key, _ in result]
    assert all(pen in session for pen in ann.pens.values())


@on_postgres
async def test_lost_race(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any]
) -> None:
    """A rival's row is not reported as created, and its key is found."""
    before_insert.append(rival(engine, Tag(name="b")))
    events: list[Event] = []
    policy = Policy(observer=events.append)
    result = await get_or_create_ids(session, Tag, named(*"abc"), policy=policy)
    assert [created for _, created in result] == [True, False, True]
    assert [key for key, _ in result] == [
        await session.scalar(sa.select(Tag.id).where(Tag.name == name))
        for name in "abc"
    ]
    before_insert.append(rival(engine, Tag(name="d")))
    await get_or_create_ids(session, Tag, named("d"), policy=policy)
    assert [event.outcome for event in events] == ["created", "lost_race"]
    assert not session.identity_map


@on_postgres
async def test_rival_that_vanishes(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any]
) -> None:
    """The row is then inserted by itself, and its object is not kept.

    Fails without `of` in `insert_alone`.
    """

    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(Tag.__table__.delete())

    before_insert.append(rival(engine, Tag(name="a")))
    async with on_lost(engine, vanish):
        result = await get_or_create_ids(session, Tag, named("a"))
    assert not session.identity_map
    assert result == [((await session.scalars(sa.select(Tag.id))).one(), True)]


async def test_conflict_on_another_constraint(session: AsyncSession) -> None:
    """The error names the constraint, and nothing of the call remains."""
    await get_or_create(session, Tag, name="old", defaults={"slug": "taken"})
    rows = [*named("a", "b"), {"name": "c", "slug": "taken"}]
    with pytest.raises(IntegrityError) as raised:
        await get_or_create_ids(session, Tag, rows, key="name")
    assert "slug" in raised.value.__notes__[0]
    assert await count(session) == 1


async def test_a_transaction_of_its_own(engine: AsyncEngine) -> None:
    """A creator commits the rows, whichever form the input has."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    creator = GetOrCreator(async_sessionmaker(engine), policy=policy)
    done: list[Any] = []
    found = await creator.get_or_create_ids(
        *(Tag, iter("ba")),
        key="name",
        defaults={"colour": "red"},
        chunk_size=1,
        progress=lambda *counts: done.append(counts),
    )
    assert found == [(await id_of(engine, name), True) for name in "ba"]
    assert done == [(1, None), (2, None)]
    assert await creator.get_or_create_ids(Tag, named(*"ba")) == [
        (key, False) for key, _ in found
    ]
    ann, _ = await creator.get_or_create(Author, name="Ann")
    rows = [{"author": ann, "title": "t"}]
    assert (await creator.get_or_create_ids(Book, rows))[0][1]
    assert [(e.verb, e.outcome) for e in events] == [
        ("get_or_create_ids", "created"),
        ("get_or_create_ids", "hit"),
        ("get_or_create", "created"),
        ("get_or_create_ids", "created"),
    ]
