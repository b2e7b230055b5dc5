"""A row that is found, and gone before the call has done with it, is a miss."""

from collections.abc import Iterator
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

from async_goc import Event, Policy, get_or_create, update_or_create


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
async def test_before_the_columns_of_a_subclass_are_read(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The row is created then, as if it had never been there.

    Fails without `InvalidRequestError` in `find_or_create`.
    """
    await rival(engine, Employee(name="Ann", badge=1))()
    tables = [Employee.__table__, Person.__table__]
    events: list[Event] = []
    with deleted_before(engine, "employee.badge", tables):
        ann, created = await get_or_create(
            session, Person, name="Ann", policy=Policy(observer=events.append)
        )
    assert (type(ann), created) == (Person, True)
    assert [event.outcome for event in events] == ["created"]
    await session.commit()
    assert await count(session, Person) == 1


@on_postgres
async def test_half_of_a_row(engine: AsyncEngine, session: AsyncSession) -> None:
    """A subclass's row without its own part is SQLAlchemy's error, and no endless loop.

    Fails without `left` in `find_or_create`.
    """
    await rival(engine, Employee(name="Ann", badge=1))()
    async with engine.begin() as connection:
        await connection.execute(delete(Employee.__table__))
    with pytest.raises(InvalidRequestError, match="refresh"):
        await get_or_create(session, Person, name="Ann")


@on_postgres
async def test_before_a_loaded_row_is_refreshed(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A rival renames a loaded row to what is looked up, and then deletes it.

    Fails without `InvalidRequestError` in `Lookup._look_and_refresh`.
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
