"""After an error inside the guard, the caller's objects are as they were."""

from typing import Any

import pytest
from backends import on_postgres
from models import Author, Book, Letter, Node, Note, Pen, Pile, Seat, Tag
from rivals import after_rival
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import Policy, get_or_create

pytestmark = pytest.mark.one_driver

unchecked = Policy(missing_constraint="ignore")


async def ann_in(session: AsyncSession, **values: Any) -> Author:
    ann = Author(name="Ann", **values)
    session.add(ann)
    await session.flush()
    return ann


def _pile(*notes: Note) -> Pile:
    pile = Pile()
    for note in notes:
        pile.put(note)
    return pile


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
    pen = Pen(colour="red")
    session.add(pen)
    await session.flush()

    async def factory(**_: Any) -> Tag:
        pen.length = 9
        await session.delete(pen)
        return Tag(name=None)

    with pytest.raises(IntegrityError):
        await get_or_create(session, Tag, name="red", factory=factory)
    assert (pen.colour, pen.length) == ("red", 1)


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


async def test_changes_by_a_listener(session: AsyncSession) -> None:
    """What the caller's listener changes before the flush is put back, too."""
    ann = await ann_in(session)

    def count(*_: object) -> None:
        ann.book_count += 1

    event.listen(session.sync_session, "before_flush", count)
    await failing(session, lambda: None, IntegrityError)
    assert ann.book_count == 0


async def test_held_collections_stay_alive(session: AsyncSession) -> None:
    """A collection that the caller holds is still the attribute's, and in order.

    With new collections in their place, what is appended to it later is lost.
    """
    books = [Book(title=title) for title in "abc"]
    ann = await ann_in(session, books=books, notes=_pile(Note()))
    held, notes = ann.books, ann.notes

    def change() -> None:
        held.remove(books[0])
        ann.book_count = 1

    await failing(session, change, IntegrityError)
    assert held is ann.books
    assert held == books
    assert [*notes] == [*ann.notes]
    held.append(Book(title="d"))
    await session.flush()
    assert [book.author_id for book in held] == [ann.id] * 4


async def test_keyed_member_whose_key_changes(session: AsyncSession) -> None:
    """A member that can no longer be found by its key does not mask the error."""
    ann = await ann_in(session, pens={"blue": Pen(colour="blue")})

    def change() -> None:
        pen = Pen(colour="red", author=ann)
        session.add(pen)
        pen.colour = None

    await failing(session, change, IntegrityError)
    assert list(ann.pens) == ["blue"]


async def test_expunged_parent(session: AsyncSession) -> None:
    """A parent that the factory expunges does not mask the error."""
    ann = await ann_in(session)

    def factory(**_: Any) -> Seat:
        session.expunge(ann)
        raise LookupError

    with pytest.raises(LookupError):
        await get_or_create(session, Seat, author=ann, factory=factory)


async def test_changes_in_place_after_a_flush(session: AsyncSession) -> None:
    """What changes in place after the first flush is read again, too."""
    ann = await ann_in(session, data={"a": 1})

    async def factory(**_: Any) -> Tag:
        ann.book_count = 1
        await session.flush()
        ann.data["a"] = 2
        return Tag(name=None)

    with pytest.raises(IntegrityError):
        await get_or_create(session, Tag, name="red", factory=factory)
    assert (ann.data, ann.book_count) == ({"a": 1}, 0)


async def test_replaced_mutable_value(session: AsyncSession) -> None:
    """A mutable value that comes back still reports its changes."""
    ann = await ann_in(session, data={"a": 1})

    def change() -> None:
        ann.data = {"b": 2}

    await failing(session, change, IntegrityError)
    ann.data["c"] = 3
    assert ann in session.dirty
    assert ann.data == {"a": 1, "c": 3}


async def test_children_that_were_there(session: AsyncSession) -> None:
    """A child that gets its foreign key, and loses it again, stays readable."""
    child = Node(name="child")
    session.add_all([child, Node(name="taken")])
    await session.flush()
    children = [child, Node(name="taken")]
    with pytest.raises(IntegrityError):
        await get_or_create(session, Node, name="root", defaults={"children": children})
    assert (child.name, child.parent_id) == ("child", None)


@on_postgres
async def test_write_only_collection(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """A parent with a write-only collection, in the session or new."""
    ann = await ann_in(session)
    await session.commit()
    await session.refresh(ann)
    rival = after_rival(engine, Letter(name="y"), {"author": ann})
    letter, created = await get_or_create(session, Letter, name="y", defaults=rival)
    assert (letter.author_id, created, ann.name) == (None, False, "Ann")
    eve = Author(name="Eve")
    rival = after_rival(engine, Letter(name="z"), {"author": eve})
    _, created = await get_or_create(session, Letter, name="z", defaults=rival)
    assert not created
    session.add(eve)
    await session.flush()
    letter, created = await get_or_create(
        session, Letter, name="new", defaults={"author": eve}
    )
    assert (letter.author is eve, created) == (True, True)
