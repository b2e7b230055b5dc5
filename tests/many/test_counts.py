"""A constant number of statements, whatever the type of the key."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from backends import BACKENDS
from kinds import Loose, Lowered, models_of
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncSession

from async_goc import get_or_create_many, update_or_create_many

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
Make = Callable[[int], Any]
GENERIC: list[tuple[Any, Make]] = [
    (sa.String(), str),
    (sa.CHAR(9), str),
    (sa.Integer(), int),
    (sa.Numeric(10, 2), lambda n: Decimal(n) / 4 if n % 2 else n),
    (sa.Float(), lambda n: n / 3 if n % 2 else n),
    (sa.LargeBinary(), lambda n: n.to_bytes(4)),
    (sa.Uuid(), lambda n: UUID(int=n)),
    (sa.DateTime(timezone=True), lambda n: NOON + timedelta(seconds=n)),
    (sa.Interval(), lambda n: timedelta(seconds=n)),
    (Loose(), lambda n: [n] if n % 2 else n),
    (Lowered(), lambda n: f"A{n}"),
]
POSTGRESQL: list[tuple[Any, Make]] = [
    (pg.CITEXT(), lambda n: f"A{n}"),
    (pg.JSONB(), lambda n: {"n": n} if n % 2 else n),
    (pg.HSTORE(), lambda n: {"n": str(n)}),
    (pg.INET(), lambda n: f"10.0.{n // 250}.{n % 250}"),
    (pg.INT4RANGE(), lambda n: pg.Range(n, n + 1)),
    (pg.ARRAY(sa.Integer), lambda n: [n, n]),
    (
        pg.TIMESTAMP(precision=0),
        lambda n: (NOON + timedelta(seconds=n)).replace(tzinfo=None),
    ),
]
VERBS: list[Any] = [get_or_create_many, get_or_create_many, update_or_create_many]
# A flush of many changes is SQLAlchemy's, and slow: an array, a document and a list.
WHOLE = (sa.Integer, sa.LargeBinary, pg.ARRAY)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("backend", "type_", "make"),
    [
        pytest.param(backend, type_, make, id=f"{backend}-{number}-{type_!r}")
        for backend in BACKENDS
        for number, (type_, make) in enumerate(
            GENERIC if backend.startswith("sqlite") else GENERIC + POSTGRESQL
        )
    ],
    indirect=["backend"],
)
async def test_counts(
    session: AsyncSession, statements: list[str], type_: Any, make: Make
) -> None:
    """As many for 10,000 rows as for 100: to create, to find and to update them."""
    _, model = models_of(type_)
    await (await session.connection()).run_sync(model.metadata.create_all)
    counts: list[list[int]] = []
    for numbers in (range(100), range(100, 10_100)):
        counts.append([])
        for word, verb in enumerate(VERBS):
            is_part = verb is update_or_create_many and not isinstance(type_, WHOLE)
            some = numbers[:1_000] if is_part else numbers
            rows = [{"key": make(number), "word": str(word)} for number in some]
            statements.clear()
            result = await verb(session, model, rows, key="key")
            counts[-1].append(len(statements))
            assert {created for _, created in result} == {word == 0}
            session.expunge_all()
    assert counts[0] == counts[1]
