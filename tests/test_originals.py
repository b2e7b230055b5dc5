"""After an error inside the guard, the caller's objects are as they were."""

from typing import Any

import pytest
from models import Author, Book, Pen, Tag
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import Policy, get_or_create

unchecked = Policy(missing_constraint="ignore")


async def ann_in(session: AsyncSession, **values: Any) -> Author:
    ann = Author(name="Ann", **values)
    session.add(ann)
    await session.flush()
    return ann


async def failing(session: AsyncSession, change: Any, error: Any) -> None:
    """A call whose factory makes *change* and a tag that violates NOT NULL."""

    def factory(**_: Any) -> Tag:
        change()
        return Tag(name=None)

    with pytest.raises(error):
        await get_or_create(session, Tag, name="red", factory=factory)


async def test_keyed_collection(session: AsyncSession) -> None:
    """Members are put back before the collections that read their keys.

    With both in one pass, restore() raises MissingGreenlet.
    """
    pens = {colour: Pen(colour=colour) for colour in ("red", "blue")}
    ann = await ann_in(session, pens=pens)
    held = ann.pens

    def change() -> None:
        ann.book_count += 1
        for pen in pens.values():
            pen.length += 1
        ann.pens["green"] = Pen(colour="green")

    await failing(session, change, IntegrityError)
    assert ann.pens == pens == dict(held)
    assert [pen.length for pen in pens.values()] == [1, 1]
    assert ann.book_count == 0


async def test_attribute_that_was_not_loaded(session: AsyncSession) -> None:
    """What SQLAlchemy has not loaded, it has not put into the object either."""
    ann = await ann_in(session)
    book = Book(author=ann, title="one")
    session.add(book)
    await session.flush()
    session.expire(book, ["author", "title"])

    def change() -> None:
        book.author = ann
        book.title = "two"

    await failing(session, change, IntegrityError)
    assert book.author is ann
    await session.refresh(book)
    assert (book.title, book.author_id, book.author) == ("one", ann.id, ann)


async def test_value_changed_in_place(session: AsyncSession) -> None:
    """A mutable value that the factory changes is read from the database again."""
    ann = await ann_in(session, data={"a": 1})

    def change() -> None:
        ann.data["a"] = 2

    await failing(session, change, IntegrityError)
    assert ann.data == {"a": 1}


async def test_deleted_object(session: AsyncSession) -> None:
    """An object that the factory changes and deletes is back, unchanged."""
    ann = await ann_in(session)

    async def factory(**_: Any) -> Tag:
        ann.book_count = 9
        await session.delete(ann)
        return Tag(name=None)

    with pytest.raises(IntegrityError):
        await get_or_create(session, Tag, name="red", factory=factory)
    assert (ann.name, ann.book_count) == ("Ann", 0)


async def test_member_that_moved_to_the_loser(session: AsyncSession) -> None:
    """A child given to the new row is back with its old parent."""
    book = Book(title="one")
    ann = await ann_in(session, books=[book])
    held = ann.books
    with pytest.raises(IntegrityError):
        await get_or_create(
            session, Author, id=-7, defaults={"books": [book], "name": "Ann"}
        )
    assert (ann.books, held, book.author is ann) == ([book], [book], True)


async def test_changes_that_were_not_flushed(session: AsyncSession) -> None:
    """A factory that changes something and raises leaves it readable, and unchanged."""
    ann = await ann_in(session)

    def change() -> None:
        ann.book_count += 1
        raise LookupError

    await failing(session, change, LookupError)
    assert (ann.name, ann.book_count) == ("Ann", 0)
