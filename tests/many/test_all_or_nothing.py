"""A call for many rows that fails has changed nothing."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from backends import on_postgres
from by_ids import Many
from kinds import models_of
from models import Author, Employee, Page, Tag
from rows import count, named
from sqlalchemy import event, inspect
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    CITEXT,
    INET,
    INT4MULTIRANGE,
    INT4RANGE,
    JSONB,
    Range,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from async_goc import Event, KeyedLocks, Policy, get_or_create, get_or_create_many

pytestmark = pytest.mark.one_driver


@pytest.mark.parametrize(
    ("model", "strategy"), [(Page, "native"), (Employee, "savepoint")]
)
async def test_all_or_nothing(
    session: AsyncSession, model: type[Any], strategy: str, many: Many
) -> None:
    """A NOT NULL violation in row 700: nothing remains, the transaction goes on."""
    ann = Author(name="Ann")
    session.add(ann)
    tag, _ = await get_or_create(session, Tag, name="mine")
    # A statement, or a flush, for each chunk.
    rows: list[dict[str, Any]] = [
        {"name": f"{number:05}"} | ({"badge": number} if model is Employee else {})
        for number in range(1_000)
    ]
    rows[700]["badge" if model is Employee else "name"] = None
    events: list[Event] = []
    policy = Policy(missing_constraint="ignore", observer=events.append)
    with pytest.raises(IntegrityError) as raised:
        await many(session, model, rows, key="name", chunk_size=100, policy=policy)
    assert "this call has been undone" in raised.value.__notes__[0]
    assert (events[0].outcome, events[0].strategy) == ("failed", strategy)
    assert await count(session, model) == 0
    for mine in (ann, tag):
        assert inspect(mine).persistent
        assert not inspect(mine).expired_attributes
    await session.commit()
    assert await count(session, Tag) == 1


async def test_conflict_on_another_constraint(
    session: AsyncSession, many: Many
) -> None:
    """The error names the constraint, and nothing of the call remains."""
    await get_or_create(session, Tag, name="old", defaults={"slug": "taken"})
    rows = [*named("a", "b"), {"name": "c", "slug": "taken"}]
    with pytest.raises(IntegrityError) as raised:
        await many(session, Tag, rows, key="name")
    assert "slug" in raised.value.__notes__[0]
    assert await count(session) == 1


async def test_rollback(session: AsyncSession) -> None:
    """What was created is transient again, and can be created again.

    Fails without `_new_in_transaction` in `register_loaded`.
    """
    result = await get_or_create_many(session, Tag, named("a", "b"))
    await session.rollback()
    assert all(inspect(tag).transient for tag, _ in result)
    again = await get_or_create_many(session, Tag, named("a", "b"))
    assert [created for _, created in again] == [True, True]


async def test_what_fails_as_the_savepoint_is_released(session: AsyncSession) -> None:
    """A change of the caller's that is flushed last of all is undone, and readable.

    Fails without `flush` in `_guarded`.
    """
    await get_or_create_many(session, Tag, named("a", "b"), key="name")
    (first, _), (second, _) = await get_or_create_many(
        session, Tag, named("a", "b"), key="name"
    )

    def progress(*_: object) -> None:
        second.name = first.name

    with pytest.raises(IntegrityError):
        await get_or_create_many(
            session, Tag, named("c"), key="name", progress=progress
        )
    assert second.name == "b"
    assert await count(session) == 2


async def test_keys_are_released_after_the_rollback(
    engine: AsyncEngine, session: AsyncSession, locks: KeyedLocks, many: Many
) -> None:
    """What waits for a key does not meet rows that are about to be undone.

    Fails without `enter_context` in `Bulk.__init__`: a turn for each chunk, entered
    inside the guard, is left before it.
    """
    held: list[int] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if sql.startswith("ROLLBACK TO"):
            held.append(locks.statistics().held)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    numbers = iter([1, 0])
    with pytest.raises(ZeroDivisionError):
        await many(
            session,
            Tag,
            named("a", "b"),
            key="name",
            chunk_size=1,
            defaults={"colour": lambda: str(1 / next(numbers))},
            policy=Policy(locks=locks),
        )
    assert held == [2]


@on_postgres
@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (sa.REAL(), 1e300),
        (sa.Float(24), 1e-300),
        (sa.Numeric(5, 2), Decimal(12345)),
        (sa.Numeric(5, 2), 12345.0),
        (sa.SmallInteger(), 2**15),
        (sa.Integer(), -(2**40)),
        (sa.BigInteger(), 2**63),
        (sa.Integer(), "no number"),
        (sa.Float(), 10**400),
        (sa.String(), "a\0"),
        (CITEXT(), "a\0"),
        (sa.String(), b"a"),
        (sa.Boolean(), 2),
        (sa.Date(), "no date"),
        (sa.Uuid(as_uuid=False), "no UUID"),
        (INET(), "no address"),
        (INT4RANGE(), Range(2, 1)),
        (INT4MULTIRANGE(), [Range(2, 1)]),
        (ARRAY(sa.SmallInteger), [2**15]),
        (JSONB(), "a\0"),
    ],
)
async def test_key_that_is_no_value_of_its_column(
    session: AsyncSession, type_: Any, value: Any
) -> None:
    """It is refused as in a call for one row, and the transaction goes on.

    Fails without `_savepoint` in `_ask`, and without `_fits` in `_keeps`.
    """
    one, many = models_of(type_)
    connection = await session.connection()
    await connection.run_sync(one.metadata.create_all)
    savepoint = await connection.begin_nested()
    try:
        await get_or_create(session, one, key=value)
    except (SQLAlchemyError, ValueError, TypeError):
        # (Some drivers find a place for what others refuse.)
        await savepoint.rollback()
        with pytest.raises((SQLAlchemyError, ValueError, TypeError)):
            await get_or_create_many(session, many, [value], key="key")
    assert await session.scalar(sa.select(1)) == 1
