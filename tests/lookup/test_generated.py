"""What the database computes can be looked up by, and is not given to a new row."""

from typing import Any

import pytest
from backends import before_sql
from filled import Generated, Owner, Span
from rivals import rival
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import Policy, get_or_create, update_or_create
from async_goc.exceptions import UnknownFieldError

pytestmark = pytest.mark.one_driver

quiet = Policy(missing_constraint="ignore")
strict = Policy(missing_constraint="error")


@pytest.fixture(autouse=True)
async def _owner(engine: AsyncEngine) -> None:
    await rival(engine, Owner(id=1))()


@pytest.mark.parametrize(
    ("criteria", "lookup"),
    [
        ([], {"slug": "sql"}),
        ([], {"other_slug": "sql"}),
        ([Generated.slug == "sql"], {}),
        ([Generated.slug == "sql"], {"slug": "sql"}),
    ],
    ids=["keyword", "synonym", "criterion", "both"],
)
async def test_unique(
    session: AsyncSession, criteria: list[Any], lookup: dict[str, Any]
) -> None:
    """A generated column that is unique covers the lookup, and the next call hits."""
    for verb, expected in ((get_or_create, True), (update_or_create, False)):
        row, created = await verb(
            session,
            Generated,
            *criteria,
            defaults={"name": "SQL"},
            policy=strict,
            **lookup,
        )
        assert (created, row.slug, row.name) == (expected, "sql", "SQL")
        session.expunge(row)


@pytest.mark.parametrize(
    ("criteria", "lookup"),
    [
        ([], {"owner": Owner(id=1)}),
        ([Generated.owner == Owner(id=1)], {}),
        ([], {"span": Span(0, 1)}),
        ([Generated.span == Span(0, 1)], {"number": 0}),
    ],
    ids=["relationship", "by criterion", "composite", "composite by criterion"],
)
async def test_other_attributes(
    session: AsyncSession, criteria: list[Any], lookup: dict[str, Any]
) -> None:
    """Attributes that stand for a generated column find by it, and do not set it."""
    if "owner" in lookup:
        lookup["owner"] = await session.get(Owner, 1)
    for expected in (True, False):
        row, created = await get_or_create(
            session,
            Generated,
            *criteria,
            defaults={"name": "SQL"},
            policy=quiet,
            **lookup,
        )
        assert (created, row.owner_id, row.span) == (expected, 1, Span(0, 1))
        session.expunge(row)


@before_sql
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
@pytest.mark.parametrize("name", ["slug", "other_slug", "span", "owner", "owner_id"])
async def test_given(
    session: AsyncSession, statements: list[str], verb: Any, name: str
) -> None:
    """A value for a generated column is refused before any SQL."""
    with pytest.raises(UnknownFieldError, match=name):
        await verb(session, Generated, name="SQL", defaults={name: None})
    assert not statements
