"""Conflicts with a row that the lookup would not return."""

from typing import Any

import pytest
from backends import POSTGRES
from models import Employee, Node, Person, Tag
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import with_loader_criteria

from async_goc import get_or_create

pytestmark = [
    pytest.mark.one_driver,
    pytest.mark.parametrize("backend", POSTGRES, indirect=True),
]


def at(engine: AsyncEngine, level: str) -> AsyncEngine:
    return engine.execution_options(isolation_level=level)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_row_of_the_parent_class(engine: AsyncEngine, level: str) -> None:
    """Joined inheritance: a plain Person holds the name; no attempt would find it."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Person(name="Ann"))
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(IntegrityError):
            await get_or_create(session, Employee, name="Ann", defaults={"badge": 1})


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_key_of_the_parent_class(engine: AsyncEngine, level: str) -> None:
    """Joined inheritance: the table of the violated key is asked."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Person(id=-1, name="Ann"))
    async with AsyncSession(at(engine, level)) as session:
        values = {"badge": 1, "name": "Eve"}
        with pytest.raises(IntegrityError):
            await get_or_create(session, Employee, id=-1, defaults=values)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
@pytest.mark.parametrize(
    ("name", "defaults"),
    [("Taken", {}), ("root", {"children": ["taken"]})],
    ids=["validator", "child"],
)
async def test_conflict_on_what_was_not_looked_up(
    engine: AsyncEngine, level: str, name: str, defaults: dict[str, Any]
) -> None:
    """A value that the model has changed, or a child's: no rival, and no retry."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Node(name="taken"))
    children = [Node(name=child) for child in defaults.get("children", ())]
    async with AsyncSession(at(engine, level)) as session:
        with pytest.raises(IntegrityError):
            await get_or_create(
                session, Node, name=name, defaults={"children": children}
            )


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_row_that_the_session_filters_out(
    engine: AsyncEngine, level: str
) -> None:
    """A soft-deleted row holds the key: the database's error, at once."""
    async with AsyncSession(engine) as session, session.begin():
        session.add(Tag(name="red", colour="deleted"))
    async with AsyncSession(at(engine, level)) as session:

        @event.listens_for(session.sync_session, "do_orm_execute")
        def _hide(state: Any) -> None:
            hidden = with_loader_criteria(Tag, Tag.colour.is_(None))
            state.statement = state.statement.options(hidden)

        with pytest.raises(IntegrityError):
            await get_or_create(session, Tag, name="red")
