"""A rival's row that comes between the SELECT and the INSERT is returned instead."""

from typing import Any

import pytest
from backends import Sessions, by_savepoint, on_postgres
from models import Author, Book, Pen, Seat, Tag, Ticket
from rivals import after_rival, on_lost, rival
from rows import count
from sqlalchemy import delete, event, inspect, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import selectinload
from sqlalchemy.util import await_only

from async_goc import Event, Policy, get_or_create
from async_goc._databases import code_of
from async_goc.exceptions import ContentionError

pytestmark = pytest.mark.one_driver


@on_postgres
async def test_statements_of_a_lost_race(
    engine: AsyncEngine, session: AsyncSession, statements: list[str], strategy: str
) -> None:
    """A lost race adds one SELECT, and with a SAVEPOINT, ROLLBACK TO."""
    rival = after_rival(engine, Tag(name="red", colour="f00"))
    statements.clear()
    tag, created = await get_or_create(session, Tag, name="red", defaults=rival)
    assert (tag.colour, created) == ("f00", False)
    statements.remove("INSERT")  # the rival's
    guarded = ["SAVEPOINT", "INSERT", "ROLLBACK TO"]
    inserting = guarded if strategy == "savepoint" else ["INSERT"]
    assert statements == ["SELECT", *inserting, "SELECT"]


@on_postgres
@by_savepoint
async def test_rivals_row_that_is_locked(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """With NOWAIT, a rival's row that another transaction has locked is an error."""
    async with AsyncSession(engine) as other:

        async def defaults() -> dict[str, Any]:
            await rival(engine, Tag(name="red"))()
            await other.execute(select(Tag.id).with_for_update())
            return {}

        how: Any = {"defaults": defaults, "with_for_update": {"nowait": True}}
        with pytest.raises(DBAPIError) as caught:
            await get_or_create(session, Tag, name="red", **how)
    assert code_of(caught.value) == "55P03"


@on_postgres
async def test_lost_race_leaves_no_trace(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """After a lost race the loser is nowhere, and what was loaded still is."""
    async with sessions.begin() as session:
        session.add(Author(name="Ann", books=[Book(title="one")]))
    async with sessions.begin() as session:
        ann = (
            await session.scalars(select(Author).options(selectinload(Author.books)))
        ).one()
        books, first = ann.books, ann.books[0]
        session.add(Tag(name="mine"))
        ann.book_count = 5
        rival = after_rival(engine, Book(author_id=ann.id, title="two"))

        book, created = await get_or_create(
            session, Book, author=ann, title="two", defaults=rival
        )

        assert not created
        assert book.author is ann
        assert (ann.name, ann.book_count, ann.books) == ("Ann", 5, [first])
        assert books == [first]
        assert first.title == "one"
        assert not session.new
        assert not session.dirty
        assert inspect(ann).expired_attributes <= inspect(ann).unloaded
        assert "books" not in inspect(ann).unloaded
    async with sessions() as session:
        assert await session.scalar(select(Author.book_count)) == 5
        assert await count(session, Tag) == 1


@on_postgres
async def test_retry_with_a_new_parent(engine: AsyncEngine, session: Any) -> None:
    """The loser of the first attempt is not taken along into the second."""

    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(Seat))

    eve, bob = Author(name="Eve"), Author(name="Bob")
    policy = Policy(missing_constraint="ignore")
    defaults = {"author": eve}
    async with on_lost(engine, vanish):
        rival = after_rival(engine, Seat(id=7), defaults)
        seat, created = await get_or_create(session, Seat, id=7, defaults=rival)
    assert (created, seat.author is eve, eve.seat is seat) == (True, True, True)
    rival = after_rival(engine, Tag(name="x"))
    pens = {"author": bob, "colour": "red"}
    async with on_lost(engine, vanish):
        rival = after_rival(engine, Pen(id=7, colour="blue"), pens)
        pen, created = await get_or_create(
            session, Pen, id=7, defaults=rival, policy=policy
        )
    assert (pen.colour, created) == ("blue", False)
    assert bob.pens == {}


@on_postgres
async def test_rival_renames_a_loaded_row(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """The row that is returned is what the lookup asks for, not what was loaded."""
    async with sessions.begin() as session:
        session.add(Tag(name="old"))
    async with sessions() as session:
        tag = (await session.scalars(select(Tag))).one()

        async def rename() -> dict[str, Any]:
            async with engine.begin() as rival:
                await rival.execute(Tag.__table__.update().values(name="new"))
            return {}

        found, created = await get_or_create(session, Tag, name="new", defaults=rename)
        assert (found is tag, found.name, created) == (True, "new", False)


@on_postgres
async def test_rival_that_vanishes_is_tried_again(
    engine: AsyncEngine, session: AsyncSession, strategy: str
) -> None:
    """A rival's row that is deleted before we look at it costs another attempt."""
    events: list[Event] = []

    async def vanish() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(Tag))

    rival = after_rival(engine, Tag(name="red", colour="rival"))
    async with on_lost(engine, vanish):
        tag, created = await get_or_create(
            session,
            Tag,
            name="red",
            defaults=rival,
            policy=Policy(observer=events.append),
        )
    assert (tag.colour, created) == (None, True)
    # A native INSERT that was skipped and one inside a SAVEPOINT are one attempt.
    attempts = 1 if strategy == "native" else 2
    assert [(e.outcome, e.attempts) for e in events] == [("created", attempts)]


@on_postgres
@pytest.mark.parametrize("model", [Tag, Ticket])
async def test_gives_up(
    engine: AsyncEngine, session: AsyncSession, model: type[Any]
) -> None:
    """Rivals that come and go for ever end in ContentionError; the session goes on."""
    key = "name" if model is Tag else "code"
    row = {key: "x", "total": 1} if model is Ticket else {key: "x"}

    async def come() -> None:
        async with engine.begin() as connection:
            await connection.execute(model.__table__.insert().values(row))

    async def go() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(model))

    async def make(**_: object) -> Any:
        await come()
        return model(**{key: "x"})

    async with on_lost(engine, go):
        with pytest.raises(ContentionError, match="2 attempts") as raised:
            await get_or_create(
                session, model, factory=make, policy=Policy(attempts=2), **{key: "x"}
            )
    assert raised.value.attempts == 2
    assert raised.value.model is model
    assert isinstance(raised.value.__cause__, IntegrityError)
    assert await count(session, model) == 0


@on_postgres
async def test_two_unique_constraints_lost_to_one_rival(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A rival with the same row is a lost race, whichever constraint fires first."""
    session.add(Tag(name="other"))
    rival = after_rival(engine, Tag(id=77, name="red"), {"id": 77})
    tag, created = await get_or_create(session, Tag, name="red", defaults=rival)
    assert (tag.id, created) == (77, False)


@on_postgres
@by_savepoint
async def test_rivals_that_come_and_go_while_it_is_asked_what_is_in_the_way(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A second rival that is there only for the question is a rival, too.

    Fails without `holder` in `find_rival`: the error says that a row holds the values.
    """
    events: list[Event] = []

    async def come() -> None:
        async with engine.begin() as connection:
            await connection.execute(Tag.__table__.insert().values(name="red"))

    async def go() -> None:
        async with engine.begin() as connection:
            await connection.execute(delete(Tag))

    # Before the lookup, the question and the lookup that follow a failed INSERT.
    steps = [go, come, go]
    waiting: list[Any] = []

    def failed(_: object) -> None:
        waiting.extend(reversed(steps))

    def before(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("SELECT") and "FROM tag" in sql and waiting:
            await_only(waiting.pop()())

    event.listen(engine.sync_engine, "handle_error", failed)
    event.listen(engine.sync_engine, "before_cursor_execute", before)
    _, created = await get_or_create(
        session,
        Tag,
        name="red",
        defaults=after_rival(engine, Tag(name="red")),
        policy=Policy(observer=events.append),
    )
    assert created
    assert waiting == []
    assert [(e.outcome, e.attempts) for e in events] == [("created", 2)]
