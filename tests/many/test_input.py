"""What rows and keys may be, and what is refused before any SQL."""

from typing import Any

import pytest
from backends import on_sqlite
from by_ids import Many
from models import Author, Pen, Tag
from sqlalchemy import func, inspect
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import (
    Event,
    Policy,
    get_or_create_many,
    update_or_create_many,
)
from async_goc.exceptions import (
    MissingConstraintError,
    MissingConstraintWarning,
    UnknownFieldError,
)


async def test_nothing_asked(
    session: AsyncSession, statements: list[str], many: Many
) -> None:
    """No rows: an empty list, and no SQL."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    assert await many(session, Tag, [], policy=policy) == []
    assert statements == []
    assert events[0].outcome == "hit"


@on_sqlite
@pytest.mark.parametrize(
    ("rows", "call", "error", "message"),
    [
        ([{"name": "a"}, {"slug": "s"}], {"key": "name"}, ValueError, "row 1 of Tag"),
        ([{"name": func.lower("A")}], {"key": "name"}, ValueError, "an SQL expression"),
        ([{"name": "a"}, 5], {}, TypeError, "row 1 is of type int"),
        ([5], {"key": ["name", "slug"]}, TypeError, "row 0 is of type int"),
        ("ab", {"key": "name"}, TypeError, "rows is of type str; give a list"),
        ({"name": "a"}, {"key": "name"}, TypeError, "give a list"),
        ([{"nmae": "a"}], {}, UnknownFieldError, "did you mean 'name'"),
        ([{"name": "a"}], {"defaults": {"x": 1}}, UnknownFieldError, "'x'"),
        ([{"name": "a"}], {"key": ["nmae"]}, UnknownFieldError, "nmae"),
        ([{"name": "a", "slug": "s"}], {}, ValueError, "several do: (name), (slug)"),
        ([{"name": "a"}, {"slug": "s"}], {}, ValueError, "none does"),
        ([{"name": "a"}], {"chunk_size": 0}, ValueError, "chunk_size is 0"),
        ([{"name": "a"}], {"options": [1]}, TypeError, "options"),
    ],
)
async def test_wrong_arguments(
    session: AsyncSession,
    statements: list[str],
    rows: list[Any],
    call: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """Wrong arguments fail before any SQL, and the error says which row it was."""
    with pytest.raises(error) as raised:
        await get_or_create_many(session, Tag, rows, **call)
    assert message in str(raised.value)
    assert statements == []


@on_sqlite
async def test_odd_mappings(session: AsyncSession, statements: list[str]) -> None:
    """A mapping that finds more names than it lists hides no unknown one.

    Fails without `tuple` in `check_names`: where rows are asked for the first one's.
    """

    class Tolerant(dict[str, Any]):
        def __contains__(self, name: object) -> bool:
            return True

    rows = [{"name": "a", "colour": "r"}, Tolerant(name="b", color="g")]
    with pytest.raises(UnknownFieldError, match="color"):
        await update_or_create_many(session, Tag, rows, key="name")
    assert statements == []


async def test_plain_values(session: AsyncSession, many: Many) -> None:
    """Where the key is one name, a value stands for a row; a mapping is a row."""
    rows = ["a", {"name": "b", "colour": "red"}, "a"]
    result = await many(session, Tag, rows, key="name")
    assert [(tag.name, tag.colour, created) for tag, created in result] == [
        *[("a", None, True), ("b", "red", True), ("a", None, False)]
    ]
    assert await many(session, Tag, iter(["a"]), key=["name"]) == [
        (result[0][0], False)
    ]


@on_sqlite
@pytest.mark.parametrize(
    ("key", "error"), [("books", ValueError), ("titles", ValueError)]
)
async def test_no_key(
    session: AsyncSession, key: str, error: type[Exception], many: Many
) -> None:
    """A collection or a proxy cannot be a key."""
    with pytest.raises(error):
        await many(session, Author, [{key: 1, "name": "A"}], key=key)


async def test_two_rows_for_a_key(session: AsyncSession, many: Many) -> None:
    """Two rows that match a key are an error, as in a call for one row."""
    policy = Policy(missing_constraint="ignore")
    session.add_all([Tag(name="a", colour="red"), Tag(name="b", colour="red")])
    with pytest.raises(MultipleResultsFound):
        await many(session, Tag, [{"colour": "red"}], key="colour", policy=policy)


async def test_without_a_constraint(session: AsyncSession) -> None:
    """Without a constraint: a warning, an error, or nothing, as the policy says."""
    rows = [{"colour": "red", "name": "a"}]
    policy = Policy(missing_constraint="error")
    with pytest.raises(MissingConstraintError):
        await get_or_create_many(session, Tag, rows, key="colour", policy=policy)
    # Once for each plan; they stay with the model.
    vars(inspect(Tag)).pop("_async_goc")
    with pytest.warns(MissingConstraintWarning) as warned:
        result = await get_or_create_many(session, Tag, rows, key="colour")
    assert warned[0].filename == __file__
    assert result[0][1]


async def test_null_in_the_key(session: AsyncSession, many: Many) -> None:
    """NULL means IS NULL, as for one row; here in some of the rows, or in all."""
    policy = Policy(missing_constraint="ignore")
    ann = Author(name="Ann")
    session.add(ann)
    await session.flush()
    rows = [
        {"author_id": None, "colour": "red"},
        {"author_id": ann.id, "colour": "red"},
        {"author_id": None, "colour": "blue"},
    ]
    for expected in (True, False):
        result = await many(
            session, Pen, rows, key=["author_id", "colour"], policy=policy
        )
        assert [created for _, created in result] == [expected] * 3
    tags = [{"slug": None, "name": "a"}]
    for expected in (True, False):
        result = await many(session, Tag, tags, key="slug", policy=policy)
        assert result[0][1] is expected


async def test_parents_in_the_key(session: AsyncSession, many: Many) -> None:
    """A many-to-one relationship identifies by its foreign key; pending ones, too."""
    ann, bob = Author(name="Ann"), Author(name="Bob")
    session.add_all([ann, bob])
    rows = [
        {"author": author, "colour": colour}
        for author in (ann, bob)
        for colour in ("red", "blue")
    ]
    result = await many(session, Pen, rows)
    assert [(pen.author, pen.colour, created) for pen, created in result] == [
        (row["author"], row["colour"], True) for row in rows
    ]
    again = await many(session, Pen, rows)
    assert [(pen, False) for pen, _ in result] == again
    with pytest.raises(ValueError, match="not in this session"):
        await many(session, Pen, [{"author": Author(name="C"), "colour": "red"}])
