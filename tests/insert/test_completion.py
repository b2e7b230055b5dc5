"""The returned object can be read without another await."""

from typing import Any

import pytest
from backends import Sessions
from models import Author, Base, Book, Desk, Loose, Review, Tag
from sqlalchemy import Connection, event, insert, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import selectinload, undefer, with_loader_criteria

from async_goc import get_or_create

pytestmark = pytest.mark.one_driver


@pytest.mark.parametrize("expire", [True, False])
async def test_created(engine: AsyncEngine, expire: bool) -> None:
    """Server defaults, empty collections and options are there, before the commit."""
    async with async_sessionmaker(engine, expire_on_commit=expire)() as session:
        tag, _ = await get_or_create(session, Tag, name="red")
        assert tag.made_at is not None
        assert (tag.id, tag.slug, tag.colour) == (tag.id, None, None)
        ann, _ = await get_or_create(session, Author, name="Ann")
        assert (ann.books, ann.desk, ann.book_count) == ([], None, 0)
        book, created = await get_or_create(
            session,
            Book,
            author=ann,
            title="one",
            defaults={"tags": [tag]},
            options=[selectinload(Book.reviews), selectinload(Book.nice_reviews)],
        )
        assert created
        assert (book.reviews, book.nice_reviews, book.tags) == ([], [], [tag])


async def test_view_only_collections_are_not_guessed(session: AsyncSession) -> None:
    """Only what foreign keys prove empty is empty; the rest stays unloaded."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    book, _ = await get_or_create(session, Book, author=ann, title="one")
    assert "nice_reviews" in inspect(book).unloaded
    assert "reviews" not in inspect(book).unloaded


async def test_only_what_is_certain(session: AsyncSession) -> None:
    """A foreign key that is checked later, and a factory, may have filled them."""
    ann, _ = await get_or_create(session, Author, name="Ann")
    assert "notes" in inspect(ann).unloaded

    def factory(**values: Any) -> Author:
        session.add(Book(author_id=-7, title="one"))
        return Author(id=-7, **values)

    eve, _ = await get_or_create(session, Author, name="Eve", factory=factory)
    assert "books" in inspect(eve).unloaded


async def test_values_that_the_insert_did_not_fetch(
    session: AsyncSession, statements: list[str], strategy: str
) -> None:
    """Without eager_defaults, one SELECT fetches what the server made."""
    row, _ = await get_or_create(session, Loose, name="x")
    assert row.made_at is not None
    guarded = ["SAVEPOINT", "INSERT", "RELEASE", "SELECT"]
    inserting = guarded if strategy == "savepoint" else ["INSERT"]
    assert statements == ["SELECT", *inserting]


async def test_row_that_the_session_filters_out(session: AsyncSession) -> None:
    """A created row is complete even where the session hides it from queries."""

    @event.listens_for(session.sync_session, "do_orm_execute")
    def _hide(state: Any) -> None:
        if not state.is_column_load:
            hidden = with_loader_criteria(Loose, Loose.name != "x")
            state.statement = state.statement.options(hidden)

    row, created = await get_or_create(session, Loose, name="x")
    assert created
    assert row.made_at is not None


async def test_deferred_columns_stay_deferred(sessions: Sessions) -> None:
    """A deferred column is loaded only if an option asks for it."""
    async with sessions.begin() as session:
        await get_or_create(session, Tag, name="red", defaults={"note": "n"})
    async with sessions() as session:
        tag, _ = await get_or_create(session, Tag, name="red")
        assert "note" in inspect(tag).unloaded
        tag, _ = await get_or_create(
            session, Tag, name="red", options=[undefer(Tag.note)]
        )
        assert tag.note == "n"


async def test_found_again_after_a_commit(sessions: Sessions) -> None:
    """A hit loads what a commit has expired."""
    async with sessions() as session:
        made, _ = await get_or_create(session, Tag, name="red")
        await session.commit()
        tag, created = await get_or_create(session, Tag, name="red")
        assert (tag is made, tag.name, created) == (True, "red", False)


async def test_children_given_are_kept(session: AsyncSession) -> None:
    """A collection that the caller has filled is not emptied."""
    ann = Author(name="Ann")
    session.add(ann)
    defaults: dict[str, Any] = {"reviews": [Review(stars=5)], "author": ann}
    book, _ = await get_or_create(session, Book, id=1, title="one", defaults=defaults)
    assert [review.stars for review in book.reviews] == [5]
    assert Base.metadata.tables


async def test_children_that_a_listener_makes(session: AsyncSession) -> None:
    """A listener to the INSERT may create rows that refer to the new one."""

    def furnish(_: object, connection: Connection, author: Author) -> None:
        connection.execute(insert(Desk).values(author_id=author.id))

    event.listen(Author, "after_insert", furnish)
    try:
        ann, _ = await get_or_create(session, Author, name="Ann")
    finally:
        event.remove(Author, "after_insert", furnish)
    assert "desk" in inspect(ann).unloaded
    await session.refresh(ann, ["desk"])
    assert ann.desk is not None
    bob, _ = await get_or_create(session, Author, name="Bob")
    assert bob.desk is None
