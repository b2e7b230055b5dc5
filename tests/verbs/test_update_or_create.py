"""update_or_create: no change is lost, and nothing else is changed."""

from typing import Any

import pytest
from backends import Sessions, before_sql, by_savepoint, on_postgres
from models import Author, Node, Page
from rivals import after_rival, on_lost
from sqlalchemy import delete, event, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import (
    Event,
    Policy,
    get_or_create,
    update_or_create,
)
from async_goc.exceptions import ContentionError, UnknownFieldError

pytestmark = pytest.mark.one_driver


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
    """One UPDATE sets what differs, and the columns that have an onupdate."""
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


@pytest.mark.parametrize(
    ("create_defaults", "likes", "views"),
    [(None, 5, 0), ({}, 0, 0), ({"views": 3}, 0, 3)],
)
async def test_values_of_a_new_row(
    session: AsyncSession, create_defaults: Any, likes: int, views: int
) -> None:
    """A new row gets the create_defaults, even empty ones, or else the defaults."""
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
    """The defaults may change what is looked up, and so may create_defaults."""
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
    """Only the model is locked: what is joined to it may not be there."""
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
    """The first call is reported as created, the second as updated."""
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


@before_sql
async def test_names_that_no_row_can_take(
    session: AsyncSession, statements: list[str]
) -> None:
    """Unknown names are refused before any SQL, whether there is a row or not."""
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


async def test_update_that_cannot_be_set(session: AsyncSession) -> None:
    """What a validator raises is raised; the SAVEPOINT is gone, and all as it was."""
    node, _ = await get_or_create(session, Node, name="a")
    with pytest.raises(AttributeError):
        await update_or_create(session, Node, name="a", defaults={"name": None})
    assert node.name == "a"
    assert not session.in_nested_transaction()
    page, _ = await get_or_create(session, Page, name="a")
    assert await session.scalar(select(func.count(Page.id))) == 1
    assert page in session
