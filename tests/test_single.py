"""The one call: what it returns, what it costs, and what it leaves alone."""

import asyncio
from typing import Any

import pytest
from conftest import Sessions, by_savepoint, on_postgres
from models import Author, Book, Desk, Pen, Review, Seat, Tag, Ticket
from rivals import after_rival, on_lost
from sqlalchemy import delete, func, inspect, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import selectinload

from async_goc import Event, Outcome, Policy, Stats, get_or_create
from async_goc.exceptions import ContentionError

unchecked = Policy(missing_constraint="ignore")


async def count(session: AsyncSession, model: type[object]) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


async def test_creates_then_finds(sessions: Sessions) -> None:
    """The first call creates the row; the second, elsewhere, returns it."""
    async with sessions.begin() as session:
        tag, created = await get_or_create(
            session, Tag, name="red", defaults={"colour": "f00"}
        )
        again, created_again = await get_or_create(session, Tag, name="red")
        assert again is tag
        assert (created, created_again) == (True, False)
    async with sessions() as session:
        tag, created = await get_or_create(
            session, Tag, name="red", defaults={"colour": "no"}
        )
        assert (tag.colour, created) == ("f00", False)


async def test_scoped_session(sessions: Sessions) -> None:
    """An async_scoped_session works like the session it stands for."""
    scoped = async_scoped_session(sessions, scopefunc=asyncio.current_task)
    _, created = await get_or_create(scoped, Tag, name="red")
    assert created
    await scoped.remove()


async def test_not_a_session(engine: AsyncEngine) -> None:
    """A sync session, or a sessionmaker, is refused by name."""
    with pytest.raises(TypeError, match="AsyncSession"):
        await get_or_create(engine, Tag, name="red")


async def test_never_commits(sessions: Sessions) -> None:
    """What the caller rolls back is gone, the created row included."""
    async with sessions() as session:
        await get_or_create(session, Tag, name="red")
        await session.rollback()
        assert await count(session, Tag) == 0


async def test_statements(
    session: AsyncSession, statements: list[str], strategy: str
) -> None:
    """A miss is four statements, or two; a hit is one."""
    guarded = ["SAVEPOINT", "INSERT", "RELEASE"]
    await get_or_create(session, Tag, name="red")
    assert statements == [
        "SELECT",
        *(guarded if strategy == "savepoint" else ["INSERT"]),
    ]
    statements.clear()
    await get_or_create(session, Tag, name="red")
    assert statements == ["SELECT"]


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
@pytest.mark.parametrize("is_loaded", [True, False])
async def test_one_to_one_does_not_take_the_rivals_row(
    engine: AsyncEngine, sessions: Sessions, is_loaded: bool
) -> None:
    """The rival's row keeps its foreign key.

    Without Originals.assume_empty(), the flush finds the rival's seat, sets its foreign
    key to NULL, and the call returns a second one with created=True.
    """
    async with sessions.begin() as session:
        session.add(Author(name="Ann"))
    async with sessions.begin() as session:
        load = [selectinload(Author.seat)] if is_loaded else []
        ann = (await session.scalars(select(Author).options(*load))).one()
        rival = after_rival(engine, Seat(id=7, author_id=ann.id))
        seat, created = await get_or_create(session, Seat, author=ann, defaults=rival)
        assert (seat.id, seat.author_id, created) == (7, ann.id, False)
        assert ("seat" in inspect(ann).unloaded) is not is_loaded
        ann_id = ann.id
    async with sessions() as session:
        assert (await session.scalars(select(Seat.author_id))).all() == [ann_id]


@on_postgres
@pytest.mark.parametrize("is_criterion", [True, False])
async def test_one_to_one_parent_in_the_defaults(
    engine: AsyncEngine, session: AsyncSession, is_criterion: bool
) -> None:
    """The same, where the lookup has the foreign key and the defaults the parent."""
    session.add(Author(name="Ann"))
    await session.commit()
    ann = (await session.scalars(select(Author))).one()
    rival = after_rival(engine, Seat(id=7, author_id=ann.id), {"author": ann})
    criteria = [Seat.author_id == ann.id] if is_criterion else []
    lookup = {} if is_criterion else {"author_id": ann.id}
    seat, created = await get_or_create(
        session, Seat, *criteria, defaults=rival, **lookup
    )
    assert (seat.id, created) == (7, False)


async def test_one_to_one_created(sessions: Sessions) -> None:
    """A created row is on both sides."""
    async with sessions.begin() as session:
        session.add(Author(name="Ann"))
    async with sessions.begin() as session:
        ann = (await session.scalars(select(Author))).one()
        seat, created = await get_or_create(session, Seat, author=ann)
        assert (ann.seat is seat, seat.author is ann, created) == (True, True, True)


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
async def test_lost_race_restores_a_scalar_relationship(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """The other side of a one-to-one forgets the loser, too."""
    async with sessions.begin() as session:
        session.add(Author(name="Ann"))
    async with sessions.begin() as session:
        load = selectinload(Author.desk)
        ann = (await session.scalars(select(Author).options(load))).one()
        rival = after_rival(engine, Desk(author_id=ann.id))
        desk, created = await get_or_create(session, Desk, author=ann, defaults=rival)
        assert not created
        assert ann.desk is None  # as it was loaded
        assert ann.name == "Ann"
        assert desk.author is ann


async def test_created_row_joins_loaded_collections(sessions: Sessions) -> None:
    """A loaded collection shows the created row."""
    async with sessions.begin() as session:
        ann, _ = await get_or_create(session, Author, name="Ann")
        book, _ = await get_or_create(session, Book, author=ann, title="one")
        assert ann.books == [book]


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
        with pytest.raises(ContentionError, match="2 INSERTs") as raised:
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


@pytest.mark.parametrize(("name", "value"), [("slug", "b"), ("id", 7)])
async def test_conflict_on_another_constraint(
    sessions: Sessions, name: str, value: Any
) -> None:
    """A taken slug is the database's own error, at once, and names the constraint."""
    async with sessions.begin() as session:
        session.add(Tag(id=7, name="blue", slug="b"))
    stats = Stats()
    async with sessions.begin() as session:
        session.add(Tag(name="mine"))
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session,
                Tag,
                name="red",
                defaults={name: value},
                policy=Policy(observer=stats),
            )
        (note,) = raised.value.__notes__
        is_sqlite = session.bind.dialect.name == "sqlite"
        names = {"slug": "tag_slug_key", "id": "tag_pkey"}
        assert (f"tag.{name}" if is_sqlite else names[name]) in note
        assert "Tag looked up by name" in note
    assert stats[Outcome.FAILED] == 1
    async with sessions() as session:
        assert sorted(await session.scalars(select(Tag.name))) == ["blue", "mine"]


async def test_conflict_on_a_narrower_constraint(sessions: Sessions) -> None:
    """A row that has the key, but not the rest of the lookup, is no lost race."""
    async with sessions.begin() as session:
        session.add(Tag(name="red", colour="f00"))
        book = Book(author=Author(name="Ann"), title="one")
        session.add(book)
        await session.flush()
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session, Book, author=book.author, title="one", id=book.id + 1
            )
        assert "title" in str(raised.value.__notes__) + str(raised.value.orig)
    async with sessions.begin() as session:
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(session, Tag, name="red", colour="900")
        assert "name" in raised.value.__notes__[0]
        assert await count(session, Tag) == 1


@by_savepoint
@pytest.mark.parametrize(
    ("model", "lookup", "defaults"),
    [
        (Book, {"author_id": 404, "title": "x"}, {}),
        (Book, {"author_id": None, "title": "x"}, {}),
        (Tag, {"name": "red"}, {"colour": "bad"}),
    ],
    ids=["foreign key", "not null", "check"],
)
async def test_other_violations_pass_through(
    sessions: Sessions, model: type[Any], lookup: Any, defaults: Any
) -> None:
    """Constraint errors reach the caller as they are; his transaction goes on."""
    async with sessions.begin() as session:
        ann = Author(name="Ann", books=[Book(title="one")])
        session.add(ann)
        await session.flush()
        policy = unchecked
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session, model, defaults=defaults, policy=policy, **lookup
            )
        assert raised.value.__cause__ is raised.value.orig
        assert "goes on" in raised.value.__notes__[0]
        assert (ann.name, ann.books[0].title) == ("Ann", "one")
    async with sessions() as session:
        assert await count(session, Author) == 1


async def test_callers_invalid_object_fails_as_the_callers(
    sessions: Sessions, statements: list[str]
) -> None:
    """A pending object that violates a constraint is not taken for a lost race."""
    async with sessions.begin() as session:
        session.add(Tag(name="red"))
    for autoflush in (True, False):
        async with sessions(autoflush=autoflush) as session:
            session.add(Tag(name="red"))
            statements.clear()
            with pytest.raises(IntegrityError) as raised:
                await get_or_create(session, Tag, name="blue")
            assert "SAVEPOINT" not in statements
            assert not hasattr(raised.value, "__notes__") or not any(
                "looked up" in note for note in raised.value.__notes__
            )


async def test_pending_row_is_found(sessions: Sessions) -> None:
    """A row that the caller has added, but not flushed, is the row."""
    async with sessions(autoflush=False) as session:
        mine = Tag(name="red")
        session.add(mine)
        tag, created = await get_or_create(session, Tag, name="red")
        assert tag is mine
        assert created is False


async def test_duplicates_in_the_table(sessions: Sessions) -> None:
    """Several matching rows are an error, with a note of what to do."""
    async with sessions.begin() as session:
        session.add_all([Review(stars=1), Review(stars=1)])
        with pytest.raises(MultipleResultsFound) as raised:
            await get_or_create(session, Review, stars=1, policy=unchecked)
        assert "Review match the lookup by stars" in raised.value.__notes__[0]


async def test_policy_as_a_lookup(session: AsyncSession) -> None:
    """A value for a column named policy is sent to where it belongs."""
    with pytest.raises(TypeError, match=r"give Tag.policy == 'x' as a positional"):
        await get_or_create(session, Tag, policy="x")


async def test_no_lookup(session: AsyncSession, statements: list[str]) -> None:
    """Nothing to look up by would match any row."""
    with pytest.raises(ValueError, match="no lookup for Tag"):
        await get_or_create(session, Tag, defaults={"name": "red"})
    assert not statements


async def test_one_session_in_two_tasks(session: AsyncSession) -> None:
    """A second task in the same session gets a clear error; the first goes on."""
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> dict[str, str]:
        inside.set()
        await leave.wait()
        return {}

    first = asyncio.create_task(get_or_create(session, Tag, name="red", defaults=slow))
    await inside.wait()
    with pytest.raises(InvalidRequestError, match="another task"):
        await get_or_create(session, Tag, name="red")
    leave.set()
    _, created = await first
    assert created
    await get_or_create(session, Tag, name="red")


async def test_nested_call_that_outlives_the_outer_one(session: AsyncSession) -> None:
    """A nested call in a task of its own does not lock the session for ever."""
    inside, leave = asyncio.Event(), asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def slow() -> dict[str, Any]:
        inside.set()
        await leave.wait()
        return {}

    async def fail() -> dict[str, Any]:
        nested = get_or_create(session, Tag, name="inner", defaults=slow)
        tasks.append(asyncio.create_task(nested))
        await inside.wait()
        raise LookupError

    with pytest.raises(LookupError):
        await get_or_create(session, Tag, name="outer", defaults=fail)
    leave.set()
    await tasks[0]
    _, created = await get_or_create(session, Tag, name="outer")
    assert created


async def test_nested_call(session: AsyncSession) -> None:
    """A factory may call get_or_create on the same session, in a task of its own."""

    async def with_author(**values: Any) -> Book:
        nested = get_or_create(session, Author, name="Ann")
        author, _ = await asyncio.create_task(nested)
        return Book(author=author, **values)

    async def defaults() -> dict[str, Any]:
        author, _ = await get_or_create(session, Author, name="Bob")
        return {"author": author}

    policy = unchecked
    book, created = await get_or_create(
        session, Book, title="one", factory=with_author, policy=policy
    )
    assert created
    assert book.author.name == "Ann"
    book, created = await get_or_create(
        session, Book, title="two", defaults=defaults, policy=policy
    )
    assert (created, book.author.name) == (True, "Bob")


@on_postgres
async def test_cancelled_while_the_database_waits(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """Cancellation goes through; afterwards nothing is held, and a call succeeds."""
    async with sessions() as rival:
        await get_or_create(rival, Tag, name="red")
        async with sessions() as session:
            # The INSERT waits for the rival's transaction, in the database.
            task = asyncio.create_task(get_or_create(session, Tag, name="red"))
            async with engine.connect() as watcher:
                await _until_someone_waits(watcher)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await session.rollback()
            assert not session.new
        await rival.rollback()
    async with sessions() as session:
        _, created = await get_or_create(session, Tag, name="red")
        assert created
    assert engine.sync_engine.pool.checkedout() == 0


async def _until_someone_waits(connection: Any) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not await connection.scalar(waiting):
        await connection.rollback()
