"""update_or_create: nobody's change is lost, and nothing else is changed."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
import updates
from backends import Sessions, by_savepoint, on_postgres
from models import Author, Employee, Page, Person, Tag
from rivals import after_rival, on_lost
from sqlalchemy import delete, event, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState

from async_goc import (
    Event,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)
from async_goc.exceptions import ContentionError, UnknownFieldError

AB = [{"name": "a"}, {"name": "b"}]
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


@pytest.fixture
def sql(engine: AsyncEngine) -> list[str]:
    """The statements sent from now on."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return sent


async def test_one_update_of_what_differs(
    session: AsyncSession, sql: list[str]
) -> None:
    """Only the given columns, and those with an onupdate; and it can be read."""
    page, created = await update_or_create(
        session, Page, name="a", defaults={"likes": 1}
    )
    assert (created, page.likes, page.changes) == (True, 1, 0)
    sql.clear()
    again, created = await update_or_create(
        session, Page, name="a", defaults={"likes": 2, "views": 0, "text": "new"}
    )
    assert again is page
    assert not created
    (update,) = [statement for statement in sql if statement.startswith("UPDATE")]
    columns = update.partition(" SET ")[2].partition(" WHERE ")[0]
    names = {part.partition("=")[0].strip() for part in columns.split(",")}
    assert names == {"likes", "text", "changes"}
    assert (page.likes, page.text, page.changes) == (2, "new", 1)
    assert page not in session.dirty


async def test_nothing_to_update(session: AsyncSession, statements: list[str]) -> None:
    """Where no value differs, the row is read, and that is all."""
    await update_or_create(session, Page, name="a", defaults={"likes": 1})
    session.expunge_all()
    statements.clear()
    page, _ = await update_or_create(session, Page, name="a", defaults={"likes": 1})
    assert statements == ["SELECT"]
    await update_or_create(session, Page, name="a")
    assert page.likes == 1
    # One more, of what was loaded before.
    assert statements == ["SELECT"] * 3


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
    """Its columns are read anew, all of them; its collections are as they were."""
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
    """They are read along with the others, and not one by one."""
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
    """What the session has loaded of them is as it was."""
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


@pytest.mark.parametrize(
    ("create_defaults", "likes", "views"),
    [(None, 5, 0), ({}, 0, 0), ({"views": 3}, 0, 3)],
)
async def test_values_of_a_new_row(
    session: AsyncSession, create_defaults: Any, likes: int, views: int
) -> None:
    """The create_defaults, be they empty; without them, the defaults."""
    page, created = await update_or_create(
        session,
        Page,
        name="a",
        defaults={"likes": 5},
        create_defaults=create_defaults,
    )
    assert created
    assert (page.likes, page.views) == (likes, views)


async def test_sql_expressions(session: AsyncSession) -> None:
    """A counter: created with one, then counted by the database."""
    for number in (1, 2, 3):
        page, _ = await update_or_create(
            session,
            Page,
            name="a",
            defaults={"views": Page.views + 1},
            create_defaults={"views": 1},
        )
        assert page.views == number


async def test_changing_what_is_looked_up(session: AsyncSession) -> None:
    """Both may: the defaults the row found, the create_defaults the new one."""
    page, created = await update_or_create(
        session, Page, name="old", create_defaults={"name": "new"}
    )
    assert (created, page.name) == (True, "new")
    same, created = await update_or_create(
        session, Page, name="new", defaults={Page.name: "newer"}
    )
    assert (created, same is page, page.name) == (False, True, "newer")
    ann, _ = await get_or_create(session, Author, name="Ann")
    bob, _ = await get_or_create(session, Author, name="Bob")
    page, created = await update_or_create(
        session,
        Page,
        author=ann,
        policy=Policy(missing_constraint="ignore"),
        defaults={"author_id": bob.id, "name": "b"},
    )
    await session.refresh(page)
    assert (created, page.author) == (True, bob)


async def test_relationships_and_eager_loading(session: AsyncSession) -> None:
    """The model is locked, and not what is joined to it, which may not be there."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    await update_or_create(session, Page, name="a")
    page, created = await update_or_create(
        session, Page, name="a", defaults={"author": ann}
    )
    assert (created, page.author, page.author_id) == (False, ann, ann.id)


@on_postgres
async def test_lost_race(engine: AsyncEngine, sessions: Sessions) -> None:
    """The rival's row gets the defaults, evaluated once; its other values stay."""
    calls: list[str] = []
    rival = after_rival(engine, Page(name="a", text="rival's"))

    async def likes() -> int:
        calls.append("called")
        await rival()
        return 7

    events: list[Event] = []
    policy = Policy(observer=events.append)
    async with sessions() as session, session.begin():
        page, created = await update_or_create(
            session, Page, name="a", defaults={"likes": likes}, policy=policy
        )
        assert not created
        assert (page.likes, page.text) == (7, "rival's")
    assert calls == ["called"]
    (seen,) = events
    assert (seen.verb, seen.outcome) == ("update_or_create", "lost_race")


async def test_outcomes(session: AsyncSession) -> None:
    """Created, then updated."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    for likes in (1, 2):
        await update_or_create(
            session, Page, name="a", defaults={"likes": likes}, policy=policy
        )
    assert [event.outcome for event in events] == ["created", "updated"]


@on_postgres
@by_savepoint
@pytest.mark.parametrize("rivals", [1, 2, 3])
async def test_row_that_vanishes_again(
    engine: AsyncEngine, session: AsyncSession, rivals: int
) -> None:
    """Deleted between the conflict and the next look: tried again, 3 times in all."""
    left = [Page(name="a", text=f"rival {number}") for number in range(rivals)]

    async def factory(**values: Any) -> Page:
        if left:
            async with AsyncSession(engine) as rival, rival.begin():
                rival.add(left.pop())
        return Page(**values)

    async def vanish() -> None:
        async with AsyncSession(engine) as rival, rival.begin():
            await rival.execute(delete(Page))

    async def call() -> tuple[Page, bool]:
        return await update_or_create(
            session, Page, name="a", defaults={"likes": 1}, factory=factory
        )

    async with on_lost(engine, vanish):
        if rivals == 3:
            with pytest.raises(ContentionError):
                await call()
            return
        page, created = await call()
    assert created
    assert (page.likes, page.text) == (1, None)


async def test_constraint_error(session: AsyncSession) -> None:
    """The update is undone, and nothing else; the note says what happened."""
    page, _ = await update_or_create(session, Page, name="a", defaults={"likes": 1})
    session.add(Page(name="b", slug="taken"))
    with pytest.raises(IntegrityError) as raised:
        await update_or_create(
            session, Page, name="a", defaults={"likes": 2, "slug": "taken"}
        )
    assert "updating the Page looked up by name" in raised.value.__notes__[0]
    assert (page.likes, page.slug) == (1, None)
    assert page not in session.dirty
    assert len((await session.scalars(select(Page))).all()) == 2


async def test_names_that_no_row_can_take(
    session: AsyncSession, statements: list[str]
) -> None:
    """Refused before any SQL, whether there is a row or not."""
    for create_defaults in (None, {}):
        with pytest.raises(UnknownFieldError):
            await update_or_create(
                session,
                Page,
                name="a",
                defaults={"liikes": 1},
                create_defaults=create_defaults,
                factory=Page,
            )
    assert statements == []


@pytest.mark.heavy
async def test_tasks_lose_nothing(engine: AsyncEngine) -> None:
    """Two tasks change a column each, and add to a third, 500 times.

    Fails without `lock` in `update_or_create`.
    """
    await asyncio.gather(
        updates.count(engine, "views", 500), updates.count(engine, "likes", 500)
    )
    await _check(engine)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "backend", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True
)
async def test_processes_lose_nothing(url: str, engine: AsyncEngine) -> None:
    """The same from two processes."""
    script, pipe = str(Path(updates.__file__)), asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, script, url, column, "500"), stdin=pipe, stdout=pipe
        )
        for column in ("views", "likes")
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    await _check(engine)


async def _check(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        page = (await session.scalars(select(Page))).one()
    assert (page.views, page.likes, page.total) == (500, 500, 1000)
