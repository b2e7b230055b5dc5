"""Under which key as_unique keeps an object, and when that key has changed."""

from collections.abc import Mapping
from typing import Any

import pytest
from backends import before_sql
from sqlalchemy.ext.asyncio import AsyncSession
from words import Alias, Form, Path, User, Watched, Word, ask

from async_goc.exceptions import ContradictionError, UnknownFieldError

pytestmark = pytest.mark.one_driver


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_changed_key(session: AsyncSession, *, is_flushed: bool) -> None:
    """An object whose key has changed is returned for its new key."""
    word = await ask(session)
    word.text = "moon"
    if is_flushed:
        await session.flush()
    again = await ask(session)
    assert again is not word
    assert (word.text, again.text) == ("moon", "sun")
    assert await ask(session, "moon") is word


@pytest.mark.parametrize("by", ["word", "word_id"])
async def test_changed_parent(session: AsyncSession, by: str) -> None:
    """A parent that was set anew changes the key in the next flush."""
    sun, moon = await ask(session), await ask(session, "moon")
    key = {"case": "plural", by: sun if by == "word" else sun.id}
    form = await Form.as_unique(session, **key)
    assert await Form.as_unique(session, **key) is form
    form.word = moon
    again = await Form.as_unique(session, **key)
    assert again is not form
    assert (again.word_id, form.word_id) == (sun.id, moon.id)


async def test_expired_key(session: AsyncSession, statements: list[str]) -> None:
    """An expired key is asked for, because it would have to be read."""
    word = await ask(session)
    session.expire(word, ["text"])
    statements.clear()
    assert await ask(session) is word
    assert statements == ["SELECT"]
    assert word.text == "sun"


async def test_collection_that_changes_the_key(session: AsyncSession) -> None:
    """A parent's collection changes the key in the next flush."""
    sun, moon = await ask(session), await ask(session, "moon")
    form = await Form.as_unique(session, word_id=sun.id, case="plural")
    moon.others.append(form)
    again = await Form.as_unique(session, word_id=sun.id, case="plural")
    assert again is not form
    assert form.word_id == moon.id


async def test_what_cannot_be_watched(
    session: AsyncSession, statements: list[str]
) -> None:
    """A row found by more than its own columns is asked for each time."""
    for number in range(2):
        word = await Watched.as_unique(session, text="sun", shout="SUN")
        assert statements.count("SELECT") == number + 1
    assert word.text == "sun"


async def test_values_that_may_change_in_place(
    session: AsyncSession, statements: list[str]
) -> None:
    """A key that may change unnoticed is asked for each time."""
    path = await Path.as_unique(session, parts=("a", "b"))
    await session.commit()
    for number in range(1, 3):
        await session.refresh(path)
        statements.clear()
        assert await Path.as_unique(session, parts=("a", "b")) is path
        assert path.parts == ["a", "b"]
        assert statements == ["SELECT"], number


async def test_contradiction(session: AsyncSession) -> None:
    """A default that contradicts what was looked up is refused."""
    with pytest.raises(ContradictionError):
        await User.as_unique(session, email="a@b.c", defaults={"email": "x@y.z"})
    user = await User.as_unique(session, email="a@b.c", defaults={"email": "a@b.c"})
    assert user.email == "a@b.c"


async def test_other_changes_do_not_matter(
    session: AsyncSession, statements: list[str]
) -> None:
    """Changes outside of the key do not matter."""
    word = await ask(session)
    word.note = "changed"
    statements.clear()
    assert await ask(session) is word
    assert statements == []


async def test_a_key_of_its_own(session: AsyncSession, statements: list[str]) -> None:
    """unique_filter finds the row, unique_hash the object; the row gets the lookup."""
    ann = await User.as_unique(session, email="Ann@b.C", defaults={"name": "Ann"})
    assert (ann.email, ann.name) == ("Ann@b.C", "Ann")
    statements.clear()
    assert await User.as_unique(session, email="aNN@B.c") is ann
    assert statements == []
    ann.email = "other@b.c"
    again = await User.as_unique(session, email="ann@b.c")
    assert again is not ann

    async def defaults() -> Mapping[str, Any]:
        return {"name": "Bob"}

    bob = await User.as_unique(session, email="Bob@b.c", defaults=defaults)
    assert (bob.email, bob.name) == ("Bob@b.c", "Bob")


async def test_criteria_that_feed_the_row(session: AsyncSession) -> None:
    """A criterion's value for a column goes before the one that was looked up."""
    alias = await Alias.as_unique(session, name="Zed")
    assert alias.name == "zed"
    assert await Alias.as_unique(session, name="ZED") is alias


async def test_values_without_a_hash(session: AsyncSession) -> None:
    """Values without a hash are asked for each time."""

    class Text(str):
        __slots__ = ()
        __hash__ = None  # type: ignore[assignment]

    word = await ask(session, Text("sun"))
    assert await ask(session, Text("sun")) is word
    assert "async_goc.unique" not in session.info


@before_sql
async def test_wrong_arguments(session: AsyncSession, statements: list[str]) -> None:
    """Wrong arguments fail before any SQL."""
    with pytest.raises(UnknownFieldError):
        await Word.as_unique(session, txt="sun")
    with pytest.raises(ValueError, match="no lookup"):
        await Word.as_unique(session)
    assert statements == []
    with pytest.raises(NotImplementedError):
        Word.unique_filter(text="sun")
