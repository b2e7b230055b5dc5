"""Rows inserted in bulk: their types, defaults and keys, whatever the columns."""

from enum import StrEnum
from typing import Any

import pytest
from backends import on_postgres
from by_ids import Many
from filled import Generated, Owner
from models import Tag, Unnamed
from sqlalchemy import (
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from wide import Arrays, Beast, Dog, Host, Keys, Wide, Wrapped

from async_goc import Policy, get_or_create, get_or_create_many

pytestmark = pytest.mark.one_driver


async def test_readable(session: AsyncSession) -> None:
    """All columns are loaded, expressions included; deferred ones are not."""
    ((odd, _),) = await get_or_create_many(session, Wide, [{"name": "a", "note": "n"}])
    assert (odd.double, odd.shade, odd.level) == (14, "dark", 7)
    assert "note" in inspect(odd).unloaded


async def test_defaults_of_columns_that_are_not_mapped(session: AsyncSession) -> None:
    """A column of a sibling class gets a default of its own in each row."""
    rows = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    for model in (Beast, Dog):
        result = await get_or_create_many(session, model, rows)
        assert all(created for _, created in result)
        chips = await session.scalars(select(Beast.__table__.c.chip))
        assert len(set(chips) - {None}) in {0, 3}
        await session.rollback()


async def test_none_in_a_key(session: AsyncSession, many: Many) -> None:
    """It is stored as NULL, and found again, whatever default the column has.

    Fails without `fromkeys` in `_insert_all`.
    """
    policy = Policy(missing_constraint="ignore")
    for expected in (True, False):
        ((row, created),) = await many(
            session, Unnamed, [{"name": None}], key="name", policy=policy
        )
        assert (row.name, created) == (None, expected)


async def test_generated_key(session: AsyncSession, many: Many) -> None:
    """What the database computes finds the row, and is not sent to it.

    Fails without `is_generated` in `sent_columns`.
    """
    session.add(Owner(id=1))
    rows = [{"slug": name.lower(), "name": name} for name in ("Ann", "Bob")]
    for expected in (True, False):
        result = await many(session, Generated, rows, key="slug")
        assert [(row.slug, created) for row, created in result] == [
            *[("ann", expected), ("bob", expected)]
        ]


@on_postgres
async def test_primary_key_of_a_deleted_row(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The object of the old row shows the new one."""
    await get_or_create_many(session, Keys, [{"id": 7, "padded": "old"}], key="padded")
    await session.commit()
    await session.refresh((await session.scalars(select(Keys))).one())
    old = await session.get(Keys, 7)
    async with engine.begin() as connection:
        await connection.execute(Keys.__table__.delete())
    ((new, created),) = await get_or_create_many(
        session, Keys, [{"id": 7, "padded": "new"}], key="padded"
    )
    assert created
    assert new is old
    assert new.padded.strip() == "new"


@on_postgres
async def test_too_long(session: AsyncSession, many: Many) -> None:
    """An array's type does not cut off what the column refuses."""
    with pytest.raises(DBAPIError):
        await many(session, Wide, [{"name": "far too long"}])
    with pytest.raises(DBAPIError):
        await many(session, Wide, [{"name": "a", "word": "x" * 10}])


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["padded"], [{"padded": "ab"}, {"padded": "abcd"}]),
        (["fraction"], [{"fraction": 0.1 + 0.2}, {"fraction": 1e300}]),
        (["data"], [{"data": b"\0"}, {"data": b"x"}]),
        (
            ["fraction", "padded"],
            [{"fraction": 0.5, "padded": "a"}, {"fraction": 0.5, "padded": "b"}],
        ),
        (["padded"], [{"padded": None}]),
        (["document"], [{"document": None}]),
    ],
)
async def test_keys(
    session: AsyncSession, names: list[str], rows: list[dict[str, Any]], many: Many
) -> None:
    """Keys of all types are told apart and found again."""
    policy = Policy(missing_constraint="ignore")
    for expected in (True, False):
        result = await many(session, Keys, rows, key=names, policy=policy)
        assert [created for _, created in result] == [expected] * len(rows)
        assert len({instance.id for instance, _ in result}) == len(rows)
        session.expunge_all()


@on_postgres
async def test_case_that_does_not_matter(session: AsyncSession, many: Many) -> None:
    """Keys that only the database takes for equal share a row, and an instance."""
    rows = [
        {"name": n, "items": ["x", n], "wrapped": n, "varied": ["v"]}
        for n in ("Ann", "ANN", "bob")
    ]
    result = await many(session, Arrays, rows)
    assert sum(created for _, created in result) == 2
    assert result[0][0] is result[1][0]
    assert result[2][0].items == ["x", "bob"]
    assert result[2][0].wrapped == "[bob]"
    assert result[2][0].varied == ["v"]
    again = await many(session, Arrays, rows)
    assert [instance for instance, _ in again] == [instance for instance, _ in result]
    assert not any(created for _, created in again)


async def test_type_of_one_database(session: AsyncSession, many: Many) -> None:
    """A type that only one database has is stored without an array."""
    rows = [{"name": name, "address": f"{name}::1"} for name in "ab"]
    result = await many(session, Host, rows, key="name")
    assert [str(host.address)[:4] for host, _ in result] == ["a::1", "b::1"]


@on_postgres
async def test_type_that_sql_wraps(session: AsyncSession, many: Many) -> None:
    """A value that is stored through SQL is not sent in an array."""
    rows = [{"name": name, "text": name} for name in "ab"]
    result = await many(session, Wrapped, rows, key="name")
    assert [wrapped.text for wrapped, _ in result] == ["[a]", "[b]"]


@on_postgres
async def test_column_that_is_padded(
    session: AsyncSession, statements: list[str], many: Many
) -> None:
    """Texts are compared as CHAR where the column is, and the model has no word of it.

    Fails without `item` in `_array`, in the type of the array: as TEXT, a text that
    ends in a space is not found, and no index of the column's serves.
    """
    await session.execute(text("ALTER TABLE tag ALTER name TYPE char(9)"))
    await many(session, Tag, ["a", "b"], key="name")
    statements.clear()
    result = await many(session, Tag, ["a ", "b"], key="name")
    assert [created for _, created in result] == [False, False]
    assert statements == ["SELECT"]


class Colour(StrEnum):
    RED = "red"


@on_postgres
async def test_texts_of_another_class(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """Members of an enumeration of texts travel in an array, as other texts do.

    Fails without `converted_to` in `array_of`.
    """
    sent: list[str] = []
    event.listen(
        engine.sync_engine, "before_cursor_execute", lambda *args: sent.append(args[2])
    )
    rows = [{"name": name, "colour": Colour.RED} for name in "ab"]
    result = await get_or_create_many(session, Tag, rows, key="name")
    assert [type(tag.colour) for tag, _ in result] == [str, str]
    assert not any("VALUES" in statement for statement in sent)


@on_postgres
@pytest.mark.parametrize("value", [["a"], ["a", "b"], [["a"]], [], ("a",)])
async def test_list_where_no_array_is(session: AsyncSession, value: Any) -> None:
    """A list is stored, or refused, as in one row: an array of lists is flattened.

    Fails without `_has_lists` in `uniform`: a list of one is stored as its member.
    """
    seen: list[Any] = []
    for is_many in (False, True):
        try:
            async with session.begin_nested() as savepoint:
                if is_many:
                    rows = [{"name": "a", "colour": value}]
                    ((tag, _),) = await get_or_create_many(session, Tag, rows)
                else:
                    given = {"colour": value}
                    tag, _ = await get_or_create(session, Tag, name="a", defaults=given)
                query = select(Tag.colour).where(Tag.id == tag.id)
                seen.append(await session.scalar(query))
                await savepoint.rollback()
        except DBAPIError as error:
            seen.append(type(error))
    assert seen[0] == seen[1]
