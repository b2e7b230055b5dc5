"""One row or many: the same rows, the same flags, whatever the type of the column."""

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from kinds import models_of
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from typed import each_type

from async_goc import (
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

pytestmark = pytest.mark.one_driver


def told(result: Sequence[tuple[Any, bool]]) -> list[Any]:
    """Which rows are one, what is in them, and the flags."""
    rows = [row for row, _ in result]
    return [(rows.index(row), row.word, created) for row, created in result]


async def stored(session: AsyncSession, model: type[Any]) -> list[Any]:
    """What the table has, as text: the database's own idea of the values."""
    columns = [sa.cast(c, sa.Text) for c in (model.key, model.value, model.word)]
    rows = (await session.execute(sa.select(*columns))).all()
    return sorted(map(str, rows))


async def accepted(
    session: AsyncSession, model: Any, values: Sequence[Any]
) -> list[Any]:
    """Those of the values that the verb for one row takes."""
    taken: list[Any] = []
    for value in values:
        try:
            async with session.begin_nested() as savepoint:
                await get_or_create(
                    session, model, key=value, defaults={"value": value}
                )
                await savepoint.rollback()
        except SQLAlchemyError:
            continue
        taken.append(value)
    return taken


@each_type
async def test_types(
    session: AsyncSession,
    statements: list[str],
    type_: Any,
    values: list[Any],
) -> None:
    """What one row takes, many take; they find, create and update the same.

    Their keys alone tell apart what their instances do.
    """
    one, many = models_of(type_)
    connection = await session.connection()
    await connection.run_sync(one.metadata.create_all)
    values = await accepted(session, one, values)
    assert values

    for created, word in ((True, "first"), (False, "second")):
        expected = [
            await get_or_create(
                session, one, key=v, defaults={"value": v, "word": word}
            )
            for v in values
        ]
        rows = [{"key": v, "value": v, "word": word} for v in values]
        async with session.begin_nested() as savepoint:
            found = await get_or_create_ids(session, many, rows, key="key")
            await savepoint.rollback()
        keys = [key for key, _ in found]
        assert [(keys.index(key), is_created) for key, is_created in found] == [
            (number, is_created) for number, _, is_created in told(expected)
        ]
        statements.clear()
        result = await get_or_create_many(session, many, rows, key="key")
        assert told(result) == told(expected)
        assert any(is_created for _, is_created in result) == created
        assert len(statements) <= (9 if created else 4), statements
        session.expunge_all()

    expected = [
        await update_or_create(session, one, key=v, defaults={"word": "third"})
        for v in values
    ]
    rows = [{"key": v, "word": "third"} for v in values]
    result = await update_or_create_many(session, many, rows, key="key")
    assert told(result) == told(expected)
    assert await stored(session, many) == await stored(session, one)
