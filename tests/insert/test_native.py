"""The strategy "native": one statement that skips conflicts, and no SAVEPOINT."""

import asyncio
import warnings
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from backends import Sessions, on_postgres
from models import (
    Cat,
    Setting,
    Tag,
)
from sqlalchemy import (
    event,
    func,
    inspect,
    null,
    select,
    text,
)
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    ResourceClosedError,
    SAWarning,
)
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.orm.exc import FlushError
from waiting import sent, until

from async_goc import Event, Policy, get_or_create
from async_goc._databases import connections_of
from async_goc._models import is_executing

NATIVE = Policy(strategy="native", missing_constraint="ignore")


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


async def test_an_ordinary_object(session: AsyncSession) -> None:
    """The row comes back as a flush would have left it.

    Fails without `COMMIT_VALUES` in `register_inserted`.
    """
    tag, _ = await get_or_create(
        session, Tag, name="red", defaults={"note": "n"}, policy=NATIVE
    )
    state: Any = inspect(tag)
    assert state.persistent
    assert not state.modified
    assert not state.expired_attributes
    assert tag.made_at is not None
    assert tag in session
    assert tag not in session.dirty
    assert await session.get(Tag, tag.id) is tag
    tag.colour = "blue"
    await session.flush()
    key = tag.id
    session.expunge_all()
    found = await session.get_one(Tag, key)
    assert (found.name, found.colour) == ("red", "blue")


async def test_defaults(session: AsyncSession) -> None:
    """Column defaults apply, SQL expressions are sent, and None is as in a flush."""
    cat, _ = await get_or_create(
        session, Cat, name="Tom", defaults={"lives": None}, policy=NATIVE
    )
    assert (cat.kind, cat.lives) == ("cat", 9)
    tag, _ = await get_or_create(
        session,
        Tag,
        name="red",
        defaults={"colour": func.lower("BLUE"), "slug": null()},
        policy=NATIVE,
    )
    assert (tag.colour, tag.slug) == ("blue", None)
    setting, _ = await get_or_create(
        session, Setting, function="f", data=None, policy=NATIVE
    )
    _, created = await get_or_create(
        session, Setting, function="f", data=None, policy=NATIVE
    )
    assert setting.data is None
    assert not created


async def test_deferred_columns_stay_deferred(session: AsyncSession) -> None:
    """A deferred column is neither loaded with the others nor expired."""
    tag, _ = await get_or_create(session, Tag, name="red", policy=NATIVE)
    state: Any = inspect(tag)
    assert "note" in state.unloaded
    assert "note" not in state.expired_attributes


@pytest.mark.parametrize("is_nested", [True, False])
async def test_rollback_makes_it_transient(
    session: AsyncSession, *, is_nested: bool
) -> None:
    """The object is transient again, like any that was new in the transaction."""
    await session.begin()
    savepoint = await session.begin_nested() if is_nested else session
    tag, _ = await get_or_create(session, Tag, name="red", policy=NATIVE)
    await savepoint.rollback()
    assert inspect(tag).transient
    assert tag not in session
    assert tag.name == "red"
    again, created = await get_or_create(session, Tag, name="red", policy=NATIVE)
    assert created
    assert again is not tag


async def test_released_savepoint(session: AsyncSession) -> None:
    """After the release, the row is new in the enclosing transaction."""
    async with session.begin_nested():
        tag, _ = await get_or_create(session, Tag, name="red", policy=NATIVE)
    assert inspect(tag).persistent
    await session.rollback()
    assert inspect(tag).transient


@on_postgres
async def test_primary_key_of_a_deleted_row(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The session still has the old row's object; the new row gets one of its own."""
    old, _ = await get_or_create(session, Tag, id=7, name="old", policy=NATIVE)
    await session.commit()
    async with engine.begin() as connection:
        await connection.execute(Tag.__table__.delete())
    new, created = await get_or_create(session, Tag, id=7, name="new", policy=NATIVE)
    assert created
    assert new is not old
    assert await session.get(Tag, 7) is new
    assert old not in session


@pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
async def test_row_without_a_key(session: AsyncSession) -> None:
    """SQLite stores NULL in a key that is no integer; the call fails, as a flush does.

    Fails without `register_pending` in `_register`.
    """

    class Local(DeclarativeBase):
        pass

    class Gap(Local):
        __tablename__ = "gap"
        code: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)

    ddl = "CREATE TABLE gap (code TEXT PRIMARY KEY, name TEXT UNIQUE)"
    await session.execute(text(ddl))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # SQLAlchemy expects no key, either.
        with pytest.raises(FlushError, match="NULL identity key"):
            await get_or_create(session, Gap, name="a", policy=NATIVE)


@on_postgres
async def test_errors_end_the_transaction(session: AsyncSession) -> None:
    """On PostgreSQL an error ends the transaction, and the note says so."""
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(
            session, Tag, name="red", defaults={"colour": "bad"}, policy=NATIVE
        )
    (note,) = raised.value.__notes__
    assert "good_colour" in note
    assert "Roll the transaction back" in note
    with pytest.raises(DBAPIError):
        await session.execute(select(1))
    await session.rollback()
    assert await session.scalar(select(func.count(Tag.id))) == 0


async def test_errors_of_an_sqlite_statement(sessions: Sessions) -> None:
    """SQLite undoes only the statement, and the note says so."""
    async with sessions() as session:
        if session.bind.dialect.name != "sqlite":
            return
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(session, Tag, name="red", defaults={"colour": "bad"})
        assert "has been undone by that" in raised.value.__notes__[0]
        await session.execute(select(1))


@on_postgres
async def test_conflict_on_another_constraint(session: AsyncSession) -> None:
    """It is skipped as well; a SAVEPOINT finds it, and the transaction goes on."""
    session.add(Tag(name="blue", slug="s"))
    events: list[Event] = []
    policy = Policy(strategy="native", attempts=1, observer=events.append)
    with pytest.raises(IntegrityError) as raised:
        await get_or_create(
            session, Tag, name="red", defaults={"slug": "s"}, policy=policy
        )
    assert "slug" in raised.value.__notes__[0]
    assert "has been undone by that" in raised.value.__notes__[0]
    assert [(e.strategy, e.attempts) for e in events] == [("savepoint", 1)]
    assert await session.scalar(select(func.count(Tag.id))) == 1


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_two_values_at_once(engine: AsyncEngine) -> None:
    """Rivals that take two unique values win both or lose both.

    Fails, now and then, if the statement names one column as its conflict target.
    """
    policy = Policy(strategy="native", locks=None)
    start = asyncio.Barrier(12)

    async def ask(number: int) -> bool:
        await start.wait()
        name = f"tag {number}"
        async with AsyncSession(engine) as session, session.begin():
            _, created = await get_or_create(
                session, Tag, name=name, defaults={"slug": name}, policy=policy
            )
        return created

    for number in range(20):
        assert sum(await asyncio.gather(*(ask(number) for _ in range(12)))) == 1


@pytest.mark.parametrize("end", ["rollback", "commit"])
@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("backend", ["postgresql+psycopg"], indirect=True)
async def test_closed_by_another_task(
    engine: AsyncEngine, end: str, *, is_told: bool
) -> None:
    """A session that is closed amid an INSERT raises what it would amid a flush.

    Fails without `ResourceClosedError`, and without `session`, in `_insert`.
    """

    async def flush(session: AsyncSession) -> None:
        session.add(Tag(name="x"))
        await session.flush()

    async def call(session: AsyncSession) -> None:
        await get_or_create(session, Tag, name="x", policy=NATIVE)

    errors: list[str] = []
    # A flush that meets the rival's row raises an error of its own.
    for write in (flush, call) if end == "rollback" else (call,):
        async with AsyncSession(engine) as rival, AsyncSession(engine) as session:
            if is_told:  # Then it is pending first.
                event.listen(session.sync_session, "pending_to_persistent", print)
            await flush(rival)
            counts = sent(engine)
            writing = asyncio.create_task(write(session))
            await until(partial(is_inserting, session, counts))
            closing = asyncio.create_task(session.close())
            await until(lambda: not session.in_transaction())
            await getattr(rival, end)()
            await closing
            with pytest.raises(ResourceClosedError) as raised:
                await writing
            errors.append(str(raised.value))
    assert len({*errors}) == 1


def is_inserting(session: AsyncSession, counts: Counter[str]) -> bool:
    held = connections_of(session.sync_session)
    return counts["INSERT"] == 1 and any(map(is_executing, held))
