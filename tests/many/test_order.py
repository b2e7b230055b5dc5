"""One order of keys for all calls, and one place for keys that are equal."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from backends import on_postgres
from kinds import models_of
from sqlalchemy import (
    CHAR,
    REAL,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Time,
    Uuid,
    cast,
    select,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    CITEXT,
    INET,
    INT4MULTIRANGE,
    INT4RANGE,
    INTERVAL,
    JSONB,
    NUMRANGE,
    TIMESTAMP,
    Range,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import registry

from async_goc import get_or_create, get_or_create_many
from async_goc._many import rows
from async_goc._many.order import rank_in_pages, ranks

EAST = timezone(timedelta(hours=9))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
DAY = NOON.date()
LATER = timedelta(hours=1)
ONE, TWO = UUID(int=0xA1), UUID(int=0xA2)


class Size(StrEnum):
    SMALL = "s"


# (type, values in the order of the database or of Python, the same spelled differently)
PLAIN: list[tuple[Any, list[Any], list[Any]]] = [
    (String(), ["s", "t"], [Size.SMALL, "t"]),
    (Integer(), [0, 1, 7], [False, True, 7]),
    (Float(), [1, 2.5, 10], [1.0, Decimal("2.5"), 10.0]),
    (Numeric(), [1, 2.5, 10], [1.0, Decimal("2.50"), Decimal(10)]),
    (Numeric(10, 2), [1, Decimal("2.5")], [Decimal("1.0"), Decimal("2.50")]),
    (Boolean(), [False, True], [0, 1]),
    (
        Date(),
        [date(2026, 1, 9), date(2026, 1, 10)],
        [date(2026, 1, 9), NAIVE + 9 * timedelta(1)],
    ),
    (DateTime(), [NAIVE, NAIVE + LATER], [NAIVE, NAIVE + LATER]),
    (Time(), [time(1), time(2)], [time(1), time(2)]),
    (Interval(), [timedelta(1), timedelta(2)], [timedelta(hours=24), timedelta(2)]),
    (LargeBinary(), [b"a", b"b"], [b"a", b"b"]),
    (Uuid(), [ONE, TWO], [str(ONE).upper(), TWO]),
]
# What only PostgreSQL knows.
OTHERS: list[tuple[Any, list[Any], list[Any]]] = [
    (CITEXT(), ["Ann", "bob", "Cid"], ["ANN", "BOB", "cid"]),
    (CHAR(5), ["a", "b"], ["a  ", "b "]),
    (String(collation="C"), ["Ann", "bob"], ["Ann", "bob"]),
    (Uuid(as_uuid=False), [str(ONE), str(TWO)], [str(ONE).upper(), str(TWO)]),
    (
        JSONB(),
        [1, [1], {"a": 1, "b": True}, {"a": True, "b": 1}],
        [1.0, [1.0], {"b": True, "a": 1.0}, {"b": 1, "a": True}],
    ),
    (INET(), ["10.0.0.2", "10.0.0.10"], ["10.0.0.2/32", "10.0.0.10"]),
    (INT4RANGE(), [Range(1, 3), Range(2, 3)], [Range(1, 2, bounds="[]"), Range(2, 3)]),
    (
        NUMRANGE(),
        [Range(1, 2), Range(Decimal("1.5"), 2)],
        [Range(Decimal("1.0"), 2), Range(Decimal("1.50"), 2)],
    ),
    (ARRAY(Integer), [[1], [1, 2], [2]], [[True], [1, 2], [2]]),
    (Numeric(10, 2), [Decimal("1.004"), 2], [Decimal("1.00"), Decimal("2.001")]),
    (Numeric(asdecimal=False), [1, float("nan")], [1.0, float("nan")]),
    (Float(), [1, float("nan")], [1.0, float("nan")]),
    (REAL(), [0.7, 2], [0.70000001, 2.0]),
    (Float(asdecimal=True), [0.1, 2], [Decimal("0.1"), Decimal(2)]),
    (
        TIMESTAMP(precision=0),
        [NAIVE, NAIVE + LATER],
        [NAIVE + timedelta(milliseconds=1), NAIVE + LATER],
    ),
    (
        INTERVAL(fields="DAY"),
        [timedelta(1), timedelta(2)],
        [timedelta(1, 7), timedelta(hours=49)],
    ),
    (
        DateTime(timezone=True),
        [NAIVE.replace(tzinfo=EAST), NAIVE + LATER],
        [NAIVE.replace(tzinfo=EAST), NAIVE + LATER],
    ),
]


def shape_of(type_: Any) -> rows.Shape:
    class Model:
        pass

    table = Table("model", MetaData(), Column("key", type_, primary_key=True))
    return rows.Shape(registry().map_imperatively(Model, table), ("key",))


@pytest.mark.parametrize(("type_", "values", "same"), PLAIN)
async def test_plain_values(
    session: AsyncSession,
    statements: list[str],
    type_: Any,
    values: Sequence[Any],
    same: Sequence[Any],
) -> None:
    """Keys that Python compares as the database does are sorted without it."""
    one, other = [await ranks(session, shape_of(type_), [v]) for v in (values, same)]
    assert list(one) == sorted(one)
    assert list(one) == list(other)
    assert len(set(one)) == len(values)
    assert statements == []


@on_postgres
@pytest.mark.parametrize(("type_", "values", "same"), OTHERS)
async def test_what_only_the_database_knows(
    session: AsyncSession,
    statements: list[str],
    type_: Any,
    values: list[Any],
    same: list[Any],
) -> None:
    """Keys that the database takes for equal have one place, however they are spelled.

    Fails without `_is_plain` in `comparable`.
    """
    places = await ranks(session, shape_of(type_), [[*same, *values]])
    assert places[: len(same)] == places[len(same) :] == list(range(1, len(same) + 1))
    # What may be refused is asked inside a SAVEPOINT.
    assert "".join(statements) in {"SELECT", "SAVEPOINTSELECTRELEASE"}


@pytest.mark.parametrize(
    ("type_", "first", "last"), [(String(), "a", "b"), (Numeric(), 1, Decimal(2))]
)
async def test_nulls(session: AsyncSession, type_: Any, first: Any, last: Any) -> None:
    """A key without a value has one place, too."""
    places = await ranks(session, shape_of(type_), [[last, None, first, None]])
    assert places[1] == places[3]
    assert sorted(places[:3]) == [places[1], places[2], places[0]]


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (Boolean(), [True, 2]),
        (Float(), [1, "no number"]),
        (Enum("a", "b", native_enum=False), ["a", "c"]),
    ],
)
async def test_values_that_are_refused(
    session: AsyncSession, type_: Any, values: list[Any]
) -> None:
    """They fail as in any other statement: nothing else is made of them."""
    _, model = models_of(type_)
    await (await session.connection()).run_sync(model.metadata.create_all)
    with pytest.raises((SQLAlchemyError, ValueError, LookupError)):
        await get_or_create_many(session, model, values, key="key")


@on_postgres
async def test_floats_in_numeric_columns(session: AsyncSession) -> None:
    """They have the digits that the driver sends of one, whatever is beside them.

    Fails without `_FEW_DIGITS` in `converted_to`.
    """
    one, many = models_of(Numeric())
    connection = await session.connection()
    await connection.run_sync(one.metadata.create_all)
    is_short = connection.dialect.driver == "psycopg"
    short = Decimal("0.142857142857143")
    await get_or_create(session, one, key=1 / 7)
    result = await get_or_create_many(
        session, many, [1 / 7, short, Decimal(1), 1], key="key"
    )
    assert [created for _, created in result] == [True, not is_short, True, False]
    stored = (cast(model.key, String) for model in (one, many))
    expected, found = [set(await session.scalars(select(key))) for key in stored]
    assert expected < found


@on_postgres
async def test_times_of_several_zones(
    session: AsyncSession, statements: list[str]
) -> None:
    """One instant is one key, whatever its time zone."""
    shape, times = shape_of(DateTime(timezone=True)), [NOON, NOON + LATER]
    one = await ranks(session, shape, [times])
    assert one == await ranks(session, shape, [[t.astimezone(EAST) for t in times]])
    assert statements == []


@on_postgres
async def test_hour_that_comes_twice(session: AsyncSession) -> None:
    """Two instants are two keys, though their clocks show one time.

    Fails without `astimezone` in `comparable`.
    """
    once = datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    shape = shape_of(DateTime(timezone=True))
    first, second = await ranks(session, shape, [[once, once.replace(fold=1)]])
    assert first < second


@on_postgres
async def test_other_values_do_not_change_the_order(session: AsyncSession) -> None:
    """Each column has its own order, and keys with the same NULLs stand together.

    Fails without `known` in `ranks`: the database knows another order of enumerations.
    """

    class Model:
        pass

    columns = [
        Column("size", Enum("b", "a", native_enum=False), primary_key=True),
        Column("price", Numeric(10, 2), primary_key=True),
    ]
    mapper = registry().map_imperatively(Model, Table("model", MetaData(), *columns))
    shape = rows.Shape(mapper, ("size", "price"))
    one = await ranks(session, shape, [["b", "a"], [1, 1]])
    other = await ranks(session, shape, [["b", "a", "a"], [1, 1, Decimal("3.001")]])
    assert (one[0] > one[1]) == (other[0] > other[1])
    places = await ranks(session, shape, [["a", "b", "c"], [1, None, 2]])
    assert sorted(places) == [places[1], places[0], places[2]]


@on_postgres
async def test_more_than_one_statement_takes(session: AsyncSession) -> None:
    """Any number of keys has the database's order, and equal ones have one place.

    Fails without `rank_in_pages` in `_rank`.
    """
    # A list of ranges travels in no array.
    numbers = [number * 7919 % 1_300 for number in range(2_600)]
    lists = [[Range(number, number + 1)] for number in numbers]
    places = await ranks(session, shape_of(INT4MULTIRANGE()), [lists])
    assert list(places) == [number + 1 for number in numbers]


@pytest.mark.parametrize("size", [2, 3, 10, 1_000])
def test_ranks_in_pages(size: int) -> None:
    """However small the pages are, and however often a value comes."""

    def ask(page: Sequence[int]) -> list[int]:
        assert len(page) <= size
        known = sorted(set(page))
        return [known.index(value) + 1 for value in page]

    for values in (
        [*range(50), *range(70)],
        [1] * 100,
        [*range(100)][::-1],
        [number * number % 61 for number in range(300)],
    ):
        known = sorted(set(values))
        expected = [known.index(value) + 1 for value in values]
        assert list(rank_in_pages(ask, size, values)) == expected
