"""A call for many rows does not let the garbage collector look at them."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from backends import Sessions, by_savepoint, on_postgres
from models import Tag
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from waiting import until

from async_goc import (
    KeyedLocks,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create_many,
)


@pytest.mark.parametrize("is_lazy", [False, True])
async def test_it_rests_while_rows_are_loaded(
    session: AsyncSession, *, is_lazy: bool
) -> None:
    """It is at work in the caller's functions, and afterwards.

    Fails without `Uncollected` in `Bulk.find_or_create`, around each of the two; in
    `find_or_create`, which has the locks and UPDATEs; and in `check_input`.
    """
    loading: list[bool] = []
    asked: list[bool] = []
    sent: list[bool] = []
    read: list[bool] = []

    class Row(dict[str, str]):
        def __iter__(self) -> Iterator[str]:
            read.append(gc.isenabled())
            return super().__iter__()

    def colour() -> str:
        asked.append(gc.isenabled())
        return "red"

    def note_load(*_: object) -> None:
        loading.append(gc.isenabled())

    def note_statement(_: object) -> None:
        sent.append(gc.isenabled())

    event.listen(session.sync_session, "loaded_as_persistent", note_load)
    defaults: Any = {"colour": colour} if is_lazy else None
    names = ["a", "b"]
    for _ in ("created", "found"):
        await get_or_create_many(session, Tag, names, key="name", defaults=defaults)
        session.expunge_all()
    assert loading == [False] * 4
    assert asked == [True] * (2 if is_lazy else 0)
    event.listen(session.sync_session, "do_orm_execute", note_statement)
    rows = [Row(name=name, colour="blue") for name in names]
    await update_or_create_many(session, Tag, rows, key="name")
    assert not any(sent + read)
    assert len(sent) > 1
    assert read
    assert gc.isenabled()


@by_savepoint
@on_postgres
async def test_it_is_at_work_after_a_cancellation(sessions: Sessions) -> None:
    """A call that waits for another one is cancelled, and nothing is left of it."""
    locks = KeyedLocks()
    how: Any = {"policy": Policy(locks=locks)}
    async with sessions() as one, sessions() as two:
        await get_or_create(one, Tag, name="a", **how)
        many = get_or_create_many(two, Tag, ["a", "b"], key="name", **how)
        call = asyncio.create_task(many)
        await until(lambda: locks.statistics().waiting)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
    assert gc.isenabled()
    assert locks.statistics().waiting == 0


@on_postgres
async def test_more_keys_than_a_plan_expects(session: AsyncSession) -> None:
    """A thousand and one are found again, each by its own key."""
    names = [str(number) for number in range(1001)]
    made = await get_or_create_many(session, Tag, names, key="name")
    found = await get_or_create_many(session, Tag, names, key="name")
    assert [tag.name for tag, _ in found] == names
    assert all(created for _, created in made)
    assert not any(created for _, created in found)
