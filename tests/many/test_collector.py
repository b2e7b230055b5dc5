"""A call for many rows does not let the garbage collector look at them."""

import gc
from typing import Any

import pytest
from models import Tag
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import get_or_create_many


@pytest.mark.parametrize("is_lazy", [False, True])
async def test_it_rests_while_rows_are_loaded(
    session: AsyncSession, *, is_lazy: bool
) -> None:
    """It is at work in the caller's functions, and afterwards.

    Fails without `Uncollected` in `find_or_create`.
    """
    loading: list[bool] = []
    asked: list[bool] = []

    def colour() -> str:
        asked.append(gc.isenabled())
        return "red"

    def note(*_: object) -> None:
        loading.append(gc.isenabled())

    event.listen(session.sync_session, "loaded_as_persistent", note)
    defaults: Any = {"colour": colour} if is_lazy else None
    names = ["a", "b"]
    await get_or_create_many(session, Tag, names, key="name", defaults=defaults)
    session.expunge_all()
    await get_or_create_many(session, Tag, names, key="name")
    assert loading == [False] * 4
    assert asked == [True] * (2 if is_lazy else 0)
    assert gc.isenabled()
