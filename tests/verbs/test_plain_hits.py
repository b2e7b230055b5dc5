"""A row that is there is found by less than a missing one, and no caller can tell."""

import asyncio
from typing import Any

import pytest
from backends import on_postgres
from models import Tag
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import get_or_create
from async_goc.exceptions import ContradictionError, UnknownFieldError


async def test_miss_looks_once(session: AsyncSession, statements: list[str]) -> None:
    """A missing row is not looked for again on the general way.

    Fails without `start` in `find_or_create`.
    """
    for name in ("red", "green"):
        await get_or_create(session, Tag, name=name)
        statements.clear()
    _, created = await get_or_create(session, Tag, name="blue")
    assert created
    assert sum(sql.startswith("SELECT") for sql in statements) == 1


@pytest.mark.parametrize(
    ("defaults", "error"),
    [
        ({"nothing": 1}, UnknownFieldError),
        ({"name": "green"}, ContradictionError),
        ([("colour", "f00")], TypeError),
    ],
)
async def test_defaults_are_checked(
    session: AsyncSession, statements: list[str], defaults: Any, error: type[Exception]
) -> None:
    """What is illegal among the defaults fails before any SQL, also on a hit.

    Fails without `has_no_say` in `plain_start`.
    """
    legal: list[Any] = [{"colour": "f00"}, {Tag.colour: "f00"}, dict]
    for each in (*legal, *legal):
        await get_or_create(session, Tag, name="red", defaults=each)
    statements.clear()
    with pytest.raises(error):
        await get_or_create(session, Tag, name="red", defaults=defaults)
    assert not statements


@on_postgres
async def test_second_task(session: AsyncSession) -> None:
    """A call in another task is refused while the session is looking.

    Fails without `claim_session` in `look_plainly`.
    """
    await get_or_create(session, Tag, name="red")
    calls = [get_or_create(session, Tag, name="red") for _ in range(2)]
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert isinstance(second, InvalidRequestError)
    assert "in use by a call in another task" in str(second)
