"""One order of keys for all calls, and one place for keys that are equal."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from backends import on_postgres, on_sqlite
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
    TypeDecorator,
    Uuid,
    cast,
    event,
    select,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    CITEXT,
    ENUM,
    INET,
    INT4MULTIRANGE,
    INT4RANGE,
    INTERVAL,
    JSONB,
    NUMRANGE,
    TIMESTAMP,
    Range,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import registry
from sqlalchemy.types import UserDefinedType

from async_goc import Policy, get_or_create, get_or_create_many
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

    Fails without `astimezone` in `_in_utc`.
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


class Blank(TypeDecorator[str]):
    """Stores a text without characters as NULL."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _: object) -> str | None:
        return value or None


@pytest.mark.parametrize("key", ["key", ("key", "word")])
async def test_values_that_are_stored_as_null(session: AsyncSession, key: Any) -> None:
    """They are one key, also where the call has no other.

    Fails without `kinds` in `comparable`.
    """
    _, model = models_of(Blank())
    model.__table__.c.key.nullable = True
    await (await session.connection()).run_sync(model.metadata.create_all)
    policy = Policy(missing_constraint="ignore")
    found = await get_or_create_many(
        session, model, [{"key": "", "word": "a"}] * 2, key=key, policy=policy
    )
    assert [created for _, created in found] == [True, False]
    assert [*await session.scalars(select(model.key))] == [None]


class Labelled(TypeDecorator[str]):
    impl = Enum
    cache_ok = True


@on_postgres
@pytest.mark.parametrize(
    "type_",
    [
        Enum("a", "b", name="many_label"),
        Labelled("a", "b", name="many_label"),
        String().with_variant(ENUM("a", "b", name="many_label"), "postgresql"),
        String().with_variant(INET(), "postgresql"),
    ],
)
async def test_texts_that_are_no_values(session: AsyncSession, type_: Any) -> None:
    """The database refuses them, and the caller's transaction goes on.

    Fails without `ENUM` in `_fits`, and in `may_be_refused`.
    """
    _, model = models_of(type_)
    await (await session.connection()).run_sync(model.metadata.create_all)
    with pytest.raises(SQLAlchemyError, match="invalid input"):
        await get_or_create_many(session, model, ["no value"], key="key")
    assert await session.scalar(select(1)) == 1


class Untyped(TypeDecorator[Any]):
    """Sends what it is given."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, _: object) -> Any:
        return value


@on_postgres
async def test_one_order_of_texts(engine: AsyncEngine, session: AsyncSession) -> None:
    """Where the database sorts texts, it does so as Python does in other calls.

    Fails without `collation` in `ordering`.
    """
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    shape, upper = shape_of(Untyped()), StrEnum("Upper", {"B": "B"})
    assert list(await ranks(session, shape, [["a", "B"]])) == ["a", "B"]
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    assert list(await ranks(session, shape, [["a", upper("B")]])) == [2, 1]
    # (A server may have no collation but that of code points.)
    assert 'COLLATE "C"' in "".join(sent)


@on_postgres
@pytest.mark.parametrize(
    ("first", "last"),
    [
        (datetime.min.replace(tzinfo=EAST), NOON),
        (NOON, datetime.max.replace(tzinfo=timezone(-LATER))),
    ],
)
async def test_times_that_no_other_zone_has(
    session: AsyncSession, first: datetime, last: datetime
) -> None:
    """The database sorts them, if the driver sends them.

    Fails without `OverflowError` in `_in_utc`.
    """
    shape = shape_of(DateTime(timezone=True))
    dialect = (await session.connection()).dialect
    if dialect.driver == "asyncpg":
        with pytest.raises(DBAPIError, match="invalid input"):
            await ranks(session, shape, [[last, first]])
    else:
        assert await ranks(session, shape, [[last, first]]) == [2, 1]


class Named(UserDefinedType[Any]):
    """A type of the caller's own, which is called whatever it likes."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


@on_sqlite
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("CHARINT", ["1", " 1 ", "1.0", 1, "a"]),
        ("CLOB", [1, "1", 1.0, "1.0", 2**53, float(2**53)]),
        ("BLOB", [1, "1", 1.0, "1.0", b"1"]),
        ("", [1, "1", "01"]),
        ("DOUBLE", ["1", "1e0", "a", 2**53, float(2**53)]),
        ("NUMERIC", [".5", "+0.50", "5e-1", "0x1", "1"]),
        ("DATE", ["1", "01", "2026-01-01"]),
    ],
)
async def test_types_by_name(
    session: AsyncSession, name: str, values: list[Any]
) -> None:
    """SQLite goes by the name of a column's type, and so tell keys apart many and one.

    Fails without `_affinity_of` in `ordering`, and in `_keeps`.
    """
    one, many = models_of(Named(name))
    await (await session.connection()).run_sync(one.metadata.create_all)
    expected = [await get_or_create(session, one, key=value) for value in values]
    found = await get_or_create_many(session, many, values, key="key")
    assert [c for _, c in found] == [c for _, c in expected]
    assert len({row for row, _ in found}) == len({row for row, _ in expected})


@on_sqlite
async def test_type_without_a_name(
    session: AsyncSession, statements: list[str]
) -> None:
    """A column that SQLAlchemy cannot create is taken to keep what it is sent.

    Fails without `Exception` in `_affinity_of`.
    """
    shape = shape_of(UserDefinedType[Any]())
    assert list(await ranks(session, shape, [["b", "1"]])) == ["b", "1"]
    assert statements == []
