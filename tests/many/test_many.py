"""Many rows, by a constant number of statements."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from backends import Sessions, on_postgres
from models import Author, Employee, Node, Page, Pen, Person, Tag
from rivals import on_lost
from sqlalchemy import delete, event, func, inspect, select, update
from sqlalchemy.exc import IntegrityError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import selectinload
from sqlalchemy.util import await_only
from waiting import until

from async_goc import (
    Event,
    KeyedLocks,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create_many,
)
from async_goc.exceptions import (
    MissingConstraintError,
    MissingConstraintWarning,
    SnapshotConflictError,
    UnknownFieldError,
)


@pytest.fixture
async def session(engine: AsyncEngine) -> Any:
    async with AsyncSession(engine) as session:
        yield session


@pytest.fixture
def before_insert(engine: AsyncEngine) -> Iterator[list[Any]]:
    """What to await, once, before the next INSERT INTO of several rows or one."""
    waiting: list[Any] = []

    def before(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("INSERT") and waiting:
            await_only(waiting.pop()())

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    yield waiting
    event.remove(engine.sync_engine, "before_cursor_execute", before)


def rival(engine: AsyncEngine, *rows: object) -> Any:
    async def insert() -> None:
        async with AsyncSession(engine) as session, session.begin():
            session.add_all(rows)

    return insert


def named(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


async def count(session: AsyncSession, model: type[Any] = Tag) -> int:
    return await session.scalar(select(func.count()).select_from(model)) or 0


async def test_order_flags_and_duplicates(
    session: AsyncSession, statements: list[str]
) -> None:
    """In the order of the input; equal keys share one instance, the first one's."""
    old, _ = await get_or_create(session, Tag, name="m")
    statements.clear()
    rows = [
        {"name": "z", "colour": "first"},
        {"name": "m", "colour": "not taken"},
        {"name": "a"},
        {"name": "z", "colour": "second"},
    ]
    result = await get_or_create_many(session, Tag, rows, key="name")
    assert statements == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]
    assert [(tag.name, created) for tag, created in result] == [
        *(("z", True), ("m", False), ("a", True), ("z", False)),
    ]
    assert result[1][0] is old
    assert result[3][0] is result[0][0]
    assert (result[0][0].colour, old.colour) == ("first", None)
    assert result[0][0].made_at is not None
    assert not session.dirty
    statements.clear()
    again = await get_or_create_many(session, Tag, iter(rows))
    assert statements == ["SELECT"]
    assert [(tag, False) for tag, _ in result] == again


async def test_three_statements_per_chunk(
    engine: AsyncEngine,
    session: AsyncSession,
    statements: list[str],
    before_insert: list[Any],
) -> None:
    """At most, and that with a race lost in each chunk; progress counts the rows."""
    if engine.dialect.name == "sqlite":
        return  # It has one writer.
    done: list[tuple[int, int | None]] = []
    rows = [{"name": f"{number:05}"} for number in range(10_000)]
    session.add_all(Tag(name=row["name"]) for row in rows[::2])
    await session.commit()
    statements.clear()
    before_insert.append(rival(engine, Tag(name="00001")))
    result = await get_or_create_many(
        session,
        Tag,
        (row for row in rows),
        chunk_size=2_500,
        progress=lambda *counts: done.append(counts),
    )
    chunk = ["SELECT", "INSERT"]
    rivals = ["INSERT"]
    lost = ["SELECT", "SAVEPOINT", "INSERT", *rivals, "SELECT"]
    assert [s for s in statements if s != "COMMIT"] == [*lost, *chunk * 3, "RELEASE"]
    assert [tag.name for tag, _ in result] == [row["name"] for row in rows]
    assert sum(created for _, created in result) == 4_999
    assert not result[1][1]
    assert done == [(n, None) for n in (2_500, 5_000, 7_500, 10_000)]


async def test_progress_counts_duplicates(session: AsyncSession) -> None:
    """Every row of the input, and how many there are, if it says so."""
    done: list[tuple[int, int | None]] = []
    await get_or_create_many(
        session,
        Tag,
        named("b", "a", "b", "c"),
        chunk_size=1,
        progress=lambda *counts: done.append(counts),
    )
    assert done == [(1, 4), (3, 4), (4, 4)]


async def test_nothing_asked(session: AsyncSession, statements: list[str]) -> None:
    """No rows: an empty list, and no SQL."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    assert await get_or_create_many(session, Tag, [], policy=policy) == []
    assert statements == []
    assert events[0].outcome == "hit"


@pytest.mark.parametrize(
    ("rows", "call", "error", "message"),
    [
        ([{"name": "a"}, {"slug": "s"}], {"key": "name"}, ValueError, "row 1 of Tag"),
        ([{"name": func.lower("A")}], {"key": "name"}, ValueError, "an SQL expression"),
        ([{"name": "a"}, 5], {}, TypeError, "row 1 is 5"),
        ([{"nmae": "a"}], {}, UnknownFieldError, "did you mean 'name'"),
        ([{"name": "a"}], {"defaults": {"x": 1}}, UnknownFieldError, "'x'"),
        ([{"name": "a"}], {"key": ["nmae"]}, UnknownFieldError, "nmae"),
        ([{"name": "a", "slug": "s"}], {}, ValueError, "several do: (name), (slug)"),
        ([{"name": "a"}, {"slug": "s"}], {}, ValueError, "none does"),
        ([{"name": "a"}], {"chunk_size": 0}, ValueError, "chunk_size is 0"),
        ([{"name": "a"}], {"options": [1]}, TypeError, "options"),
    ],
)
async def test_wrong_arguments(
    session: AsyncSession,
    statements: list[str],
    rows: list[Any],
    call: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """They fail before any SQL, and say which row it was."""
    with pytest.raises(error) as raised:
        await get_or_create_many(session, Tag, rows, **call)
    assert message in str(raised.value)
    assert statements == []


@pytest.mark.parametrize(
    ("key", "error"), [("books", ValueError), ("titles", ValueError)]
)
async def test_no_key(session: AsyncSession, key: str, error: type[Exception]) -> None:
    """What says too little of a row, or only in SQL, is no key."""
    with pytest.raises(error):
        await get_or_create_many(session, Author, [{key: 1, "name": "A"}], key=key)


async def test_defaults(session: AsyncSession) -> None:
    """They fill what a row lacks; functions are called for each new row."""
    await get_or_create(session, Tag, name="old")
    calls = iter(range(10))

    async def slug() -> str:
        return f"slug {next(calls)}"

    rows = [*named("old", "b", "a"), {"name": "c", "slug": "own"}]
    result = await get_or_create_many(
        session, Tag, rows, key="name", defaults={"slug": slug, "colour": "red"}
    )
    assert [tag.slug for tag, _ in result] == [None, "slug 1", "slug 0", "own"]
    assert [tag.colour for tag, _ in result] == [None, "red", "red", "red"]

    def all_of_them() -> Mapping[str, Any]:
        return {"colour": "blue"}

    result = await get_or_create_many(session, Tag, named("d"), defaults=all_of_them)
    assert result[0][0].colour == "blue"


async def test_rows_that_leave_out_different_columns(session: AsyncSession) -> None:
    """What the database would fill, it fills where a row has nothing for it."""
    moment = (await get_or_create(session, Tag, name="x"))[0].made_at.replace(year=1999)
    rows = [
        {"name": "a", "made_at": moment},
        {"name": "b"},
        {"name": "c", "id": 1_000, "colour": None},
        {"name": "d", "made_at": None},
    ]
    result = await get_or_create_many(session, Tag, rows, key="name")
    assert all(created for _, created in result)
    a, b, c, d = (tag for tag, _ in result)
    assert a.made_at == moment
    assert b.made_at != moment
    assert c.id == 1_000
    assert d.made_at != moment


async def test_options(session: AsyncSession) -> None:
    """Loader options hold for the rows found, and for those created."""
    await get_or_create(session, Author, name="Ann")
    await session.commit()
    session.expunge_all()
    result = await get_or_create_many(
        session, Author, named("Ann", "Bob"), options=[selectinload(Author.books)]
    )
    assert [author.books for author, _ in result] == [[], []]


@pytest.mark.parametrize(
    ("model", "strategy"), [(Page, "native"), (Employee, "savepoint")]
)
async def test_all_or_nothing(
    session: AsyncSession, model: type[Any], strategy: str
) -> None:
    """A NOT NULL violation in row 7,000: nothing remains, the transaction goes on."""
    ann = Author(name="Ann")
    session.add(ann)
    tag, _ = await get_or_create(session, Tag, name="mine")
    # A statement, or a flush, for each chunk.
    rows: list[dict[str, Any]] = [
        {"name": f"{number:05}"} | ({"badge": number} if model is Employee else {})
        for number in range(10_000)
    ]
    rows[7_000]["badge" if model is Employee else "name"] = None
    events: list[Event] = []
    policy = Policy(missing_constraint="ignore", observer=events.append)
    with pytest.raises(IntegrityError) as raised:
        await get_or_create_many(
            session, model, rows, key="name", chunk_size=1_000, policy=policy
        )
    assert "this call has been undone" in raised.value.__notes__[0]
    assert (events[0].outcome, events[0].strategy) == ("failed", strategy)
    assert await count(session, model) == 0
    for mine in (ann, tag):
        assert inspect(mine).persistent
        assert not inspect(mine).expired_attributes
    await session.commit()
    assert await count(session, Tag) == 1


async def test_conflict_on_another_constraint(session: AsyncSession) -> None:
    """The error says which, and nothing of the call remains."""
    await get_or_create(session, Tag, name="old", defaults={"slug": "taken"})
    rows = [*named("a", "b"), {"name": "c", "slug": "taken"}]
    with pytest.raises(IntegrityError) as raised:
        await get_or_create_many(session, Tag, rows, key="name")
    assert "slug" in raised.value.__notes__[0]
    assert await count(session) == 1


async def test_rollback(session: AsyncSession) -> None:
    """What was created is transient again; and can be created again."""
    result = await get_or_create_many(session, Tag, named("a", "b"))
    await session.rollback()
    assert all(inspect(tag).transient for tag, _ in result)
    again = await get_or_create_many(session, Tag, named("a", "b"))
    assert [created for _, created in again] == [True, True]


@on_postgres
async def test_lost_race(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any]
) -> None:
    """A rival's rows are found, and said not to be ours."""
    before_insert.append(rival(engine, Tag(name="b", colour="rival's")))
    events: list[Event] = []
    policy = Policy(observer=events.append)
    result = await get_or_create_many(session, Tag, named("a", "b", "c"), policy=policy)
    assert [created for _, created in result] == [True, False, True]
    assert result[1][0].colour == "rival's"
    before_insert.append(rival(engine, Tag(name="d")))
    await get_or_create_many(session, Tag, named("d", "a"), policy=policy)
    await get_or_create_many(session, Tag, named("d", "a"), policy=policy)
    outcomes = [(e.outcome, e.strategy, e.attempts) for e in events]
    assert outcomes == [
        ("created", "native", 1),
        ("lost_race", "native", 1),
        ("hit", "savepoint", 0),
    ]


@on_postgres
async def test_race_lost_with_options(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any]
) -> None:
    """The options are honoured, though the call has created nothing."""
    before_insert.append(rival(engine, Author(name="Ann")))
    options = [selectinload(Author.books)]
    rows = named("Ann")
    ((ann, created),) = await get_or_create_many(session, Author, rows, options=options)
    assert not created
    assert ann.books == []


@on_postgres
async def test_rival_that_vanishes(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any]
) -> None:
    """Its row is gone when we look again: then it is ours to create."""

    async def vanish() -> None:
        async with AsyncSession(engine) as other, other.begin():
            await other.execute(delete(Tag))

    # The statement that skips a conflict returns fewer rows, and does not fail.
    before_insert.append(rival(engine, Tag(name="a")))
    async with on_lost(engine, vanish):
        result = await get_or_create_many(session, Tag, named("a"))
    assert result[0][1]


@on_postgres
async def test_beyond_the_snapshot(
    engine: AsyncEngine, before_insert: list[Any]
) -> None:
    """REPEATABLE READ: the rival's row cannot be seen, and the transaction goes on."""
    frozen = engine.execution_options(isolation_level="REPEATABLE READ")
    async with AsyncSession(frozen) as session:
        before_insert.append(rival(engine, Tag(name="a")))
        with pytest.raises(SnapshotConflictError):
            await get_or_create_many(session, Tag, named("a", "b"))
        assert await count(session) == 0


async def test_two_rows_for_a_key(session: AsyncSession) -> None:
    """As for one row."""
    policy = Policy(missing_constraint="ignore")
    session.add_all([Tag(name="a", colour="red"), Tag(name="b", colour="red")])
    with pytest.raises(MultipleResultsFound):
        await get_or_create_many(
            session, Tag, [{"colour": "red"}], key="colour", policy=policy
        )


async def test_without_a_constraint(session: AsyncSession) -> None:
    """A warning, an error, or nothing, as the policy says."""
    rows = [{"colour": "red", "name": "a"}]
    policy = Policy(missing_constraint="error")
    with pytest.raises(MissingConstraintError):
        await get_or_create_many(session, Tag, rows, key="colour", policy=policy)
    # Once for each plan; they stay with the model.
    vars(inspect(Tag)).pop("_async_goc")
    with pytest.warns(MissingConstraintWarning) as warned:
        result = await get_or_create_many(session, Tag, rows, key="colour")
    assert warned[0].filename == __file__
    assert result[0][1]


async def test_null_in_the_key(session: AsyncSession) -> None:
    """NULL means IS NULL, as for one row; here in some of the rows, or in all."""
    policy = Policy(missing_constraint="ignore")
    ann = Author(name="Ann")
    session.add(ann)
    await session.flush()
    rows = [
        {"author_id": None, "colour": "red"},
        {"author_id": ann.id, "colour": "red"},
        {"author_id": None, "colour": "blue"},
    ]
    for expected in (True, False):
        result = await get_or_create_many(
            session, Pen, rows, key=["author_id", "colour"], policy=policy
        )
        assert [created for _, created in result] == [expected] * 3
    tags = [{"slug": None, "name": "a"}]
    for expected in (True, False):
        result = await get_or_create_many(session, Tag, tags, key="slug", policy=policy)
        assert result[0][1] is expected


async def test_parents_in_the_key(session: AsyncSession) -> None:
    """A many-to-one relationship identifies by its foreign key; pending ones, too."""
    ann, bob = Author(name="Ann"), Author(name="Bob")
    session.add_all([ann, bob])
    rows = [
        {"author": author, "colour": colour}
        for author in (ann, bob)
        for colour in ("red", "blue")
    ]
    result = await get_or_create_many(session, Pen, rows)
    assert [(pen.author, pen.colour, created) for pen, created in result] == [
        (row["author"], row["colour"], True) for row in rows
    ]
    again = await get_or_create_many(session, Pen, rows)
    assert [(pen, False) for pen, _ in result] == again
    with pytest.raises(ValueError, match="not in this session"):
        await get_or_create_many(
            session, Pen, [{"author": Author(name="C"), "colour": "red"}]
        )


async def test_models_that_need_the_unit_of_work(
    session: AsyncSession, statements: list[str]
) -> None:
    """One flush per chunk, inside a SAVEPOINT."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    rows = [{"name": f"n{number}", "badge": number} for number in range(6)]
    await get_or_create(session, Employee, name="n3", defaults={"badge": 3})
    statements.clear()
    result = await get_or_create_many(
        session, Employee, rows, key="name", chunk_size=4, policy=policy
    )
    assert [employee.badge for employee, _ in result] == list(range(6))
    assert [created for _, created in result].count(False) == 1
    assert events[0].strategy == "savepoint"
    assert statements.count("SAVEPOINT") == 3
    # The base class finds them, with all of their columns.
    found = await get_or_create_many(session, Person, named("n1"), key="name")
    assert isinstance(found[0][0], Employee)
    session.expunge_all()
    found = await get_or_create_many(session, Person, named("n1"), key="name")
    assert found[0][0].badge == 1


@on_postgres
async def test_unit_of_work_loses_a_race(
    engine: AsyncEngine, session: AsyncSession, before_insert: list[Any]
) -> None:
    """The chunk's rows are inserted one by one then, and each is told."""
    before_insert.append(rival(engine, Node(name="b")))
    result = await get_or_create_many(session, Node, named("a", "b", "c"))
    assert [created for _, created in result] == [True, False, True]
    assert await count(session, Node) == 3


async def test_registry(engine: AsyncEngine) -> None:
    """Two calls of one process for the same rows: one of them inserts."""
    locks = KeyedLocks()
    inserts: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("INSERT"):
            inserts.append(sql)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    start = asyncio.Barrier(5)
    policy = Policy(locks=locks, wait_timeout=20)

    async def call(names: str) -> int:
        async with AsyncSession(engine) as session, session.begin():
            await start.wait()
            result = await get_or_create_many(
                session, Tag, named(*names), policy=policy
            )
            return sum(created for _, created in result)

    calls = [call(names) for names in ("abcd", "dcba", "badc", "cbda", "bcda")]
    assert sum(await asyncio.gather(*calls)) == 4
    assert len(inserts) == 1
    statistics = locks.statistics()
    assert (statistics.held, statistics.waiting) == (0, 0)


@pytest.mark.parametrize("hold", ["transaction", "call"])
async def test_keys_are_held(engine: AsyncEngine, hold: Any) -> None:
    """Until the transaction ends, or the call; not after an error."""
    locks = KeyedLocks()
    policy = Policy(locks=locks, hold=hold)
    async with AsyncSession(engine) as session:
        await get_or_create_many(session, Tag, named("a", "b"), policy=policy)
        on_file = engine.dialect.name == "sqlite"
        kept = (1 if on_file else 2) if hold == "transaction" else 0
        assert locks.statistics().held == kept
        await session.rollback()
        assert locks.statistics().held == 0
        with pytest.raises(IntegrityError):
            await get_or_create_many(
                session, Tag, [{"name": "a", "colour": "bad"}], policy=policy
            )
        assert locks.statistics().held == (1 if on_file and kept else 0)
    assert locks.statistics().held == 0


@on_postgres
async def test_wait_that_takes_too_long(engine: AsyncEngine) -> None:
    """After wait_timeout the call goes on without the key, and asks the database."""
    locks = KeyedLocks()
    policy = Policy(locks=locks, wait_timeout=0)
    first = AsyncSession(engine)
    await get_or_create_many(first, Tag, named("a", "b"), policy=policy)
    async with AsyncSession(engine) as second:
        other = asyncio.ensure_future(
            get_or_create_many(second, Tag, named("b", "c"), policy=policy)
        )
        await until(lambda: locks.statistics().timeouts)
        await first.rollback()
        result = await other
        assert [created for _, created in result] == [True, True]
        await second.commit()
    await first.close()
    assert locks.statistics().held == 0


async def test_update(session: AsyncSession) -> None:
    """Existing rows get the named values, new ones all; in the order of the input."""
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
    """Between the look and the lock: it is created again."""
    await rival(engine, Page(name="a"), Page(name="b", text="stays"))()
    rows = [{"name": n, "likes": 3} for n in "ab"]
    with before_locking(engine, delete(Page).where(Page.name == "a")):
        result = await update_or_create_many(session, Page, rows, key="name")
    assert [(p.likes, p.text, created) for p, created in result] == [
        (3, None, True),
        (3, "stays", False),
    ]


@on_postgres
async def test_update_of_a_row_that_was_renamed(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """Between the look and the lock: it is the one that has the name by now."""
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


async def test_updates_lose_nothing(sessions: Sessions) -> None:
    """Tasks that update overlapping rows, in different orders, 30 times each."""

    async def work(column: str, names: str) -> None:
        for number in range(1, 31):
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
    assert [(p.views, p.likes, p.total) for p in pages] == [(30, 30, 60)] * 5
