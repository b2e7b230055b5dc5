"""A row that is found, and gone before the call has done with it, is a miss."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from backends import by_savepoint, on_postgres
from models import Employee, Page, Person
from rivals import rival
from rows import count
from sqlalchemy import delete, event, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.util import await_only

from async_goc import (
    Event,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create,
)
from async_goc.exceptions import ContentionError

pytestmark = pytest.mark.one_driver


@contextmanager
def deleted_before(engine: AsyncEngine, what: str, tables: list[Any]) -> Iterator[None]:
    """Let a rival delete all rows before the first SELECT of what matches."""

    async def go() -> None:
        async with engine.begin() as connection:
            for table in tables:
                await connection.execute(table.delete())

    def before(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("SELECT") and what in sql and not done:
            done.append(sql)
            await_only(go())

    done: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", before)
    yield
    event.remove(engine.sync_engine, "before_cursor_execute", before)
    assert done


@on_postgres
@pytest.mark.parametrize("verb", [get_or_create, get_or_create_many])
async def test_before_the_columns_of_a_subclass_are_read(
    engine: AsyncEngine, session: AsyncSession, verb: Any
) -> None:
    """The row is created then, as if it had never been there.

    Fails without `InvalidRequestError` in `read`.
    """
    await rival(engine, Employee(name="Ann", badge=1))()
    tables = [Employee.__table__, Person.__table__]
    events: list[Event] = []
    with deleted_before(engine, "employee.badge", tables):
        policy = Policy(observer=events.append)
        if verb is get_or_create:
            ann, created = await verb(session, Person, name="Ann", policy=policy)
        else:
            ((ann, created),) = await verb(
                session, Person, ["Ann"], key="name", policy=policy
            )
    assert (type(ann), created) == (Person, True)
    assert [event.outcome for event in events] == ["created"]
    await session.commit()
    assert await count(session, Person) == 1


@on_postgres
async def test_half_of_a_row(engine: AsyncEngine, session: AsyncSession) -> None:
    """A subclass's row without its own part is SQLAlchemy's error, and at once.

    Fails without `has_row` in `read`.
    """
    await rival(engine, Employee(name="Ann", badge=1))()
    async with engine.begin() as connection:
        await connection.execute(delete(Employee.__table__))
    looks: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        looks.extend([sql] * ("person.name =" in sql))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    with pytest.raises(InvalidRequestError, match="refresh"):
        await get_or_create(session, Person, name="Ann")
    assert len(looks) == 1


@contextmanager
def raising(error: Exception) -> Iterator[list[object]]:
    """Let a listener refuse each refresh of a page, or of an employee."""
    calls: list[object] = []

    def refuse(target: object, _: object, names: Collection[str]) -> None:
        if names:
            calls.append(target)
            raise error

    for model in (Page, Employee):
        event.listen(model, "refresh", refuse)
    try:
        yield calls
    finally:
        for model in (Page, Employee):
            event.remove(model, "refresh", refuse)


@pytest.mark.parametrize("model", [Page, Person])
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_other_errors_of_a_refresh(
    engine: AsyncEngine, session: AsyncSession, model: Any, verb: Any
) -> None:
    """Of the same class, and about a row that is there: they come through, at once.

    Fails without `has_row` in `read`.
    """
    await rival(engine, Page(name="a"), Employee(name="a", badge=1))()
    how = {"with_for_update": {"of": model}} if verb is get_or_create else {}
    # What is loaded is refreshed by the next call.
    loaded = await verb(session, Page, name="a") if model is Page else ()
    error = InvalidRequestError("the listener's")
    with raising(error) as calls, pytest.raises(InvalidRequestError) as raised:
        await verb(session, model, name="a", **how)
    assert raised.value is error
    assert len(calls) == 1
    assert calls[0] in loaded or model is Person


@on_postgres
async def test_each_time_before_the_columns_of_a_subclass_are_read(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The call gives up after the policy's attempts, and says what was seen.

    Fails without `attempts` in `find_or_create`.
    """
    looks: list[str] = []

    async def change() -> None:
        async with AsyncSession(engine) as other, other.begin():
            for table in (Employee.__table__, Person.__table__):
                await other.execute(table.delete())
            if len(looks) % 2:
                other.add(Employee(name="Ann", badge=1))

    def before(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        is_look = "person.name = " in sql
        if is_look or ("employee.badge" in sql and "WHERE" in sql):
            looks.append(sql)
            await_only(change())

    event.listen(engine.sync_engine, "before_cursor_execute", before)
    with pytest.raises(ContentionError, match="found in each of 2 att") as raised:
        await get_or_create(session, Person, name="Ann", policy=Policy(attempts=2))
    assert (len(looks), raised.value.has_vanished) == (4, True)


async def test_each_time_before_the_update(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The call gives up after the policy's attempts, and says what was seen.

    Fails without `attempts` in `update_or_create`.
    """
    page = Page.__table__
    updates: list[str] = []

    def insert(connection: Any, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("SELECT") and "page.name =" in sql:
            connection.execute(page.delete())
            connection.execute(page.insert().values(name="a", views=1))

    def delete_(connection: Any, *_: object) -> None:
        updates.append("")
        assert len(updates) < 9
        connection.execute(page.delete())

    event.listen(engine.sync_engine, "before_cursor_execute", insert)
    event.listen(engine.sync_engine, "savepoint", delete_)
    with pytest.raises(ContentionError, match="found in each of 2 att") as raised:
        await update_or_create(
            session,
            Page,
            name="a",
            defaults={"views": 2},
            policy=Policy(attempts=2),
        )
    assert (len(updates), raised.value.has_vanished) == (2, True)


@on_postgres
async def test_before_a_loaded_row_is_refreshed(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A rival renames a loaded row to what is looked up, and then deletes it.

    Fails without `InvalidRequestError` in `read`.
    """
    await rival(engine, Page(name="old"))()
    old = (await session.scalars(select(Page))).one()

    async def rename() -> dict[str, Any]:
        async with engine.begin() as connection:
            await connection.execute(Page.__table__.update().values(name="new"))
        return {"views": 5}

    with deleted_before(engine, "page.id =", [Page.__table__]):
        page, created = await get_or_create(session, Page, name="new", defaults=rename)
    assert (page is old, page.views, created) == (False, 5, True)


@pytest.mark.parametrize("how", ["flushed", "pending", "by the ORM", "by SQL"])
async def test_by_what_makes_the_values(session: AsyncSession, how: str) -> None:
    """Defaults that delete the row make a new one of it, and are evaluated once.

    Fails without `persistent` in `_change`, and `StaleDataError` in `_change`.
    """
    old, _ = await update_or_create(session, Page, name="a", defaults={"likes": 1})
    # SQLite would give the new row the old one's id.
    await get_or_create(session, Page, name="b")
    calls: list[str] = []

    async def defaults() -> dict[str, Any]:
        calls.append(how)
        if how == "by SQL":
            await session.execute(text("DELETE FROM page WHERE name = 'a'"))
        elif how == "by the ORM":
            await session.execute(delete(Page).where(Page.name == "a"))
        else:
            await session.delete(old)
            if how == "flushed":
                await session.flush()
        return {"views": 7}

    page, created = await update_or_create(session, Page, name="a", defaults=defaults)
    assert (page is old, created, page.views, page.likes) == (False, True, 7, 0)
    assert page in session
    assert calls == [how]
    await session.commit()
    assert await count(session, Page) == 2


@by_savepoint
@on_postgres
async def test_update_that_a_trigger_skips(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """SQLAlchemy's error of a row that is there comes through, once."""
    async with engine.begin() as connection:
        for statement in (
            """CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NULL; END $$""",
            """CREATE TRIGGER skip BEFORE UPDATE ON page
            FOR EACH ROW EXECUTE FUNCTION skip()""",
        ):
            await connection.execute(text(statement))
    try:
        await update_or_create(session, Page, name="a")
        with pytest.raises(StaleDataError):
            await update_or_create(session, Page, name="a", defaults={"views": 1})
        await session.rollback()
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("DROP FUNCTION skip CASCADE"))
