"""Violations that are no lost race reach the caller as the database reported them."""

from typing import Any

import pytest
from backends import Sessions, by_savepoint
from models import Author, Book, Tag
from rows import count
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from async_goc import Outcome, Policy, Stats, get_or_create

unchecked = Policy(missing_constraint="ignore")


@pytest.mark.parametrize(("name", "value"), [("slug", "b"), ("id", 7)])
async def test_conflict_on_another_constraint(
    sessions: Sessions, name: str, value: Any
) -> None:
    """A taken slug is the database's own error, at once, and names the constraint."""
    async with sessions.begin() as session:
        session.add(Tag(id=7, name="blue", slug="b"))
    stats = Stats()
    async with sessions.begin() as session:
        session.add(Tag(name="mine"))
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session,
                Tag,
                name="red",
                defaults={name: value},
                policy=Policy(observer=stats),
            )
        (note,) = raised.value.__notes__
        is_sqlite = session.bind.dialect.name == "sqlite"
        names = {"slug": "tag_slug_key", "id": "tag_pkey"}
        assert (f"tag.{name}" if is_sqlite else names[name]) in note
        assert "Tag looked up by name" in note
    assert stats[Outcome.FAILED] == 1
    async with sessions() as session:
        assert sorted(await session.scalars(select(Tag.name))) == ["blue", "mine"]


async def test_conflict_on_a_narrower_constraint(sessions: Sessions) -> None:
    """A row that has the key, but not the rest of the lookup, is no lost race."""
    async with sessions.begin() as session:
        session.add(Tag(name="red", colour="f00"))
        book = Book(author=Author(name="Ann"), title="one")
        session.add(book)
        await session.flush()
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session, Book, author=book.author, title="one", id=book.id + 1
            )
        assert "title" in str(raised.value.__notes__) + str(raised.value.orig)
    async with sessions.begin() as session:
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(session, Tag, name="red", colour="900")
        assert "name" in raised.value.__notes__[0]
        assert await count(session, Tag) == 1


@by_savepoint
@pytest.mark.parametrize(
    ("model", "lookup", "defaults"),
    [
        (Book, {"author_id": 404, "title": "x"}, {}),
        (Book, {"author_id": None, "title": "x"}, {}),
        (Tag, {"name": "red"}, {"colour": "bad"}),
    ],
    ids=["foreign key", "not null", "check"],
)
async def test_other_violations_pass_through(
    sessions: Sessions, model: type[Any], lookup: Any, defaults: Any
) -> None:
    """Constraint errors reach the caller as they are; the transaction goes on."""
    async with sessions.begin() as session:
        ann = Author(name="Ann", books=[Book(title="one")])
        session.add(ann)
        await session.flush()
        policy = unchecked
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session, model, defaults=defaults, policy=policy, **lookup
            )
        assert raised.value.__cause__ is raised.value.orig
        assert "has been undone by that" in raised.value.__notes__[0]
        assert (ann.name, ann.books[0].title) == ("Ann", "one")
    async with sessions() as session:
        assert await count(session, Author) == 1


async def test_callers_invalid_object_fails_as_the_callers(
    sessions: Sessions, statements: list[str]
) -> None:
    """A pending object that violates a constraint is not taken for a lost race."""
    async with sessions.begin() as session:
        session.add(Tag(name="red"))
    for autoflush in (True, False):
        async with sessions(autoflush=autoflush) as session:
            session.add(Tag(name="red"))
            statements.clear()
            with pytest.raises(IntegrityError) as raised:
                await get_or_create(session, Tag, name="blue")
            assert "SAVEPOINT" not in statements
            assert not hasattr(raised.value, "__notes__") or not any(
                "looked up" in note for note in raised.value.__notes__
            )
