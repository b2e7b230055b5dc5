"""What a flush may change, as_unique does not hand out before."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from backends import by_savepoint
from slippery import (
    Link,
    Loose,
    Made,
    Owner,
    Page,
    Paper,
    Part,
    Shelf,
    listening,
)
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from words import Word, ask_twice

from async_goc import get_or_create

# The memory is the same, however a row was inserted.
pytestmark = [by_savepoint, pytest.mark.one_driver]

# An object, its model, and what it was looked up by before it changed.
Asked = tuple[object, Any, dict[str, Any]]
Change = Callable[[AsyncSession], Awaitable[Asked]]


async def _owner(session: AsyncSession, code: str = "o") -> Owner:
    return await Owner.as_unique(session, code=code)


async def parent_without_constraint(session: AsyncSession) -> Asked:
    one, other = await _owner(session), await _owner(session, "other")
    loose = await ask_twice(session, Loose, owner_id=one.id)
    loose.owner = other
    return loose, Loose, {"owner_id": one.id}


async def collection_without_constraint(session: AsyncSession) -> Asked:
    one, other = await _owner(session), await _owner(session, "other")
    loose = await ask_twice(session, Loose, owner=one)
    await session.refresh(other, ["loose"])
    other.loose.append(loose)
    return loose, Loose, {"owner": one}


async def orphan(session: AsyncSession) -> Asked:
    owner = await _owner(session)
    part = await ask_twice(session, Part, name="p")
    owner.parts.append(part)
    await session.flush()
    await ask_twice(session, Part, name="p")
    owner.parts.remove(part)
    return part, Part, {"name": "p"}


async def deleted_by_the_database(session: AsyncSession) -> Asked:
    owner = await _owner(session)
    page = await Page.as_unique(session, name="p", defaults={"owner_id": owner.id})
    session.expire(owner)
    await session.refresh(owner)
    await ask_twice(session, Page, name="p")
    await session.delete(owner)
    assert page not in session.deleted
    return page, Page, {"name": "p"}


async def association_row(session: AsyncSession) -> Asked:
    owner, page = await _owner(session), await Page.as_unique(session, name="p")
    link = {"owner_id": owner.id, "page_id": page.id}
    made = await ask_twice(session, Link, **link)
    await session.refresh(owner, ["links"])
    owner.links.remove(page)
    await session.flush()
    assert made in session
    return made, Link, link


async def generated_column(session: AsyncSession) -> Asked:
    made = await ask_twice(session, Made, size=1)
    await session.refresh(made)
    await ask_twice(session, Made, double=2)
    made.size = 5
    other = insert(Made.__table__).values(size=1, version=1, state="new")
    await (await session.connection()).execute(other)  # without a flush
    return made, Made, {"double": 2}


async def onupdate(session: AsyncSession) -> Asked:
    made = await ask_twice(session, Made, state="new")
    made.title = "x"
    return made, Made, {"state": "new"}


async def version(session: AsyncSession) -> Asked:
    made = await ask_twice(session, Made, size=1)
    await ask_twice(session, Made, version=1)
    made.title = "x"
    return made, Made, {"version": 1}


async def expression(session: AsyncSession) -> Asked:
    word = await ask_twice(session, Word, text="sun")
    word.text = func.upper("moon")  # type: ignore[assignment]
    return word, Word, {"text": "sun"}


async def flushed_expression(session: AsyncSession) -> Asked:
    asked = await expression(session)
    await session.flush()
    return asked


async def equal_in_python(session: AsyncSession) -> Asked:
    paper = await ask_twice(session, Paper, doc=1)
    await session.execute(update(Paper.__table__).values(doc=True))
    await session.refresh(paper)
    return paper, Paper, {"doc": 1}


async def with_equal_items(session: AsyncSession) -> Asked:
    paper = await ask_twice(session, Paper, doc=(1, "a"))
    await session.execute(update(Paper.__table__).values(doc=(True, "a")))
    await session.refresh(paper)
    return paper, Paper, {"doc": (1, "a")}


async def parent_of_another_registry(session: AsyncSession) -> Asked:
    shelf, _ = await get_or_create(session, Shelf, id=1)
    page = await Page.as_unique(session, shelf_id=1, defaults={"name": "p"})
    await session.refresh(shelf, ["pages"])
    await Page.as_unique(session, shelf_id=1)
    shelf.pages.remove(page)
    other = insert(Page.__table__).values(name="other", shelf_id=1)
    await (await session.connection()).execute(other)  # without a flush
    return page, Page, {"shelf_id": 1}


async def by_statement(session: AsyncSession) -> Asked:
    word = await ask_twice(session, Word, text="sun")
    await session.execute(update(Word).values(text="moon"))
    return word, Word, {"text": "sun"}


CHANGES: list[Change] = [
    parent_without_constraint,
    collection_without_constraint,
    orphan,
    deleted_by_the_database,
    association_row,
    generated_column,
    onupdate,
    version,
    expression,
    flushed_expression,
    equal_in_python,
    with_equal_items,
    parent_of_another_registry,
    by_statement,
]


@pytest.mark.filterwarnings("ignore::async_goc.exceptions.MissingConstraintWarning")
@pytest.mark.filterwarnings("ignore:.*dentity map:sqlalchemy.exc.SAWarning")
@pytest.mark.filterwarnings("ignore:New instance:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_what_a_flush_changes(
    session: AsyncSession, statements: list[str], change: Change
) -> None:
    """What is not set, or not seen to be another value, is asked for."""
    held, model, lookup = await change(session)
    statements.clear()
    again = await model.as_unique(session, **lookup)
    assert "SELECT" in statements
    assert again is not held
    found = await session.scalars(select(model).filter_by(**lookup))
    assert found.one() is again


@pytest.mark.filterwarnings("ignore::async_goc.exceptions.MissingConstraintWarning")
@pytest.mark.parametrize("hook", ["before_update", "before_flush"])
async def test_listeners_that_set_the_key(session: AsyncSession, hook: str) -> None:
    """A change of anything may make a listener change the key."""

    def set_slug(*_: object) -> None:
        made.slug = made.title

    made = await Made.as_unique(session, slug="old", defaults={"title": "old"})
    assert await Made.as_unique(session, slug="old") is made
    target = Made if hook == "before_update" else session.sync_session
    with listening(target, hook, set_slug):
        made.title = "new"
        assert await Made.as_unique(session, slug="old") is not made
    assert made.slug == "new"
