"""Values that PostgreSQL stores in another form than it is given them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from backends import on_postgres
from rivals import after_rival
from rows import count
from sqlalchemy import (
    CHAR,
    REAL,
    Enum,
    Float,
    Interval,
    Numeric,
    String,
    TypeDecorator,
    and_,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN, INTERVAL, TIME, TIMESTAMP
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column

from async_goc import Outcome, Policy, Stats, get_or_create, update_or_create
from async_goc._databases import stores_another


class Decorated(TypeDecorator[float]):
    impl = REAL
    cache_ok = True


class Base(DeclarativeBase):
    """A table that only these tests have."""


def unique(type_: Any) -> MappedColumn[Any]:
    return mapped_column(type_, unique=True, nullable=True)


class Reading(Base):
    __tablename__ = "reading"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    real: Mapped[Any] = unique(REAL)
    short: Mapped[Any] = unique(Float(24))
    decorated: Mapped[Any] = unique(Decorated)
    varied: Mapped[Any] = unique(Float().with_variant(REAL(), "postgresql"))
    at: Mapped[Any] = unique(TIMESTAMP(precision=0))
    zoned: Mapped[Any] = unique(TIMESTAMP(precision=3, timezone=True))
    hour: Mapped[Any] = unique(TIME(precision=1))
    span: Mapped[Any] = unique(INTERVAL(precision=0))
    plain_span: Mapped[Any] = unique(Interval(second_precision=0))
    price: Mapped[Any] = unique(Numeric(10, 2))
    whole: Mapped[Any] = unique(Numeric(10))
    exact: Mapped[Any] = unique(Numeric())
    amount: Mapped[Any] = unique(DOMAIN("amount", Numeric(8, 1)))
    code: Mapped[Any] = unique(CHAR(4))
    reals: Mapped[Any] = unique(ARRAY(REAL))
    prices: Mapped[Any] = unique(ARRAY(Numeric(10, 2)))
    times: Mapped[Any] = unique(ARRAY(TIMESTAMP(precision=0)))
    # These are stored as they are given.
    word: Mapped[Any] = unique(String(4))
    double: Mapped[Any] = unique(Float(53))


AT = datetime(2024, 1, 1, 12, 0, 0, 654321)  # noqa: DTZ001
VALUES = {
    "real": 0.7,
    "short": 0.7,
    "decorated": 0.7,
    "varied": 0.7,
    "at": AT,
    "zoned": AT.replace(tzinfo=UTC),
    "hour": time(1, 2, 3, 456789),
    "span": timedelta(seconds=1.6),
    "plain_span": timedelta(seconds=1.6),
    "price": Decimal("1.255"),
    "whole": Decimal("2.5"),
    "exact": 1 / 3,
    "amount": Decimal("0.25"),
    "code": "ab ",
    "reals": [0.7, None],
    "prices": [Decimal("1.255")],
    "times": [AT],
    "word": "ab",
    "double": 0.7,
}
pytestmark = [
    pytest.mark.one_driver,
    # SQLAlchemy 2.1 says this of its own type.
    pytest.mark.filterwarnings("ignore:Type object <class '.*DOMAIN'>"),
]


@pytest.fixture
async def own_table(engine: AsyncEngine) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


@on_postgres
@pytest.mark.usefixtures("own_table")
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
@pytest.mark.parametrize("how", ["keyword", "criterion", "criteria"])
async def test_found_again(session: AsyncSession, verb: Any, how: str) -> None:
    """A value is compared as the column stores it, in whatever way it is given.

    Fails without `as_stored` in `stored_criteria`: ContentionError.
    """
    stats = Stats()
    policy = Policy(observer=stats)
    for name, value in VALUES.items():
        criterion = getattr(Reading, name) == value
        lookups: dict[str, tuple[list[Any], dict[str, Any]]] = {
            "keyword": ([], {name: value}),
            "criterion": ([criterion], {}),
            "criteria": ([and_(criterion, Reading.note.is_(None))], {}),
        }
        criteria, lookup = lookups[how]
        outcomes = [
            await verb(session, Reading, *criteria, policy=policy, **lookup)
            for _ in range(2)
        ]
        assert [created for _, created in outcomes] == [True, False], name
        assert outcomes[0][0] is outcomes[1][0]
    assert stats[Outcome.LOST_RACE] == 0
    assert await count(session, Reading) == len(VALUES)


@on_postgres
@pytest.mark.usefixtures("own_table")
async def test_lost_race(engine: AsyncEngine, session: AsyncSession) -> None:
    """A rival's row is found after the INSERT, and by any later transaction.

    Fails without `as_stored` in `stored_criteria`.
    """
    for name, value in VALUES.items():
        await session.connection()
        row = {name: value}
        rival = after_rival(engine, Reading(**row))
        _, created = await get_or_create(session, Reading, defaults=rival, **row)
        assert not created, name
        await session.rollback()
    level = {"isolation_level": "REPEATABLE READ"}
    await session.connection(execution_options=level)
    for name, value in VALUES.items():
        _, created = await get_or_create(session, Reading, **{name: value})
        assert not created, name


@on_postgres
@pytest.mark.usefixtures("own_table")
async def test_row_that_stays(engine: AsyncEngine, session: AsyncSession) -> None:
    """The table itself is asked for the key as it is stored, too.

    Fails without `as_stored` in `HeldKey._conflicts`: the row that stays is not seen.
    """
    async with AsyncSession(engine) as other, other.begin():
        other.add(Reading(real=0.7, note="other"))
    with pytest.raises(IntegrityError):
        await get_or_create(session, Reading, real=0.7, note="mine")


@on_postgres
@pytest.mark.usefixtures("own_table")
async def test_values_that_a_cast_would_cut(session: AsyncSession) -> None:
    """Text that is too long for a CHAR(n) does not find what it begins with."""
    await get_or_create(session, Reading, code="abcd")
    assert (await get_or_create(session, Reading, code="abcd     "))[1] is False
    with pytest.raises(DBAPIError, match="too long"):
        await get_or_create(session, Reading, code="abcdef")


class Plain(DeclarativeBase):
    """A table that every database can have."""


class Sample(Plain):
    __tablename__ = "sample"

    id: Mapped[int] = mapped_column(primary_key=True)
    real: Mapped[Any] = unique(REAL)
    code: Mapped[Any] = unique(CHAR(4))
    kind: Mapped[Any] = unique(Enum("a", "b", native_enum=False))


async def test_other_databases(engine: AsyncEngine, session: AsyncSession) -> None:
    """Elsewhere nothing is cast, and a type that PostgreSQL lacks does no harm."""
    assert not stores_another(Enum("a", "b"))  # It needs a name.
    async with engine.begin() as connection:
        await connection.run_sync(Plain.metadata.create_all)
    values = {"real": 0.7, "code": "ab", "kind": "a"}
    for name, value in values.items():
        for expected in (True, False):
            _, created = await get_or_create(session, Sample, **{name: value})
            assert created is expected
    await session.rollback()
    async with engine.begin() as connection:
        await connection.run_sync(Plain.metadata.drop_all)
