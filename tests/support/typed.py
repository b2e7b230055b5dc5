"""Types of columns, each with values, some of them the same to a database."""

import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from backends import POSTGRES
from kinds import Doubled, Loose, Loud, Lowered
from sqlalchemy.dialects import postgresql as pg

EAST = timezone(timedelta(hours=9))
NOON = datetime(2026, 1, 1, 12, 30, 15, 654321, tzinfo=UTC)
NAIVE = NOON.replace(tzinfo=None)
DAY = NOON.date()
ONE = UUID("00000000-0000-0000-0000-0000000000a1")
TEXTS = ["a", "A", "a ", "", "ä", "a\u0308", "x" * 300, "%", "'\"\\", "{}", "\u0000"]
NUMBERS = [0, 1, 2.5, True, Decimal("7.50"), Decimal("7.5"), -3, 10**6]


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Word(enum.StrEnum):
    YES = "yes"


GENERIC: list[tuple[Any, list[Any]]] = [
    (sa.String(), [*TEXTS, Word.YES, "yes"]),
    (sa.String(5), ["a", "A", "a ", "abcde"]),
    (sa.Text(), TEXTS),
    (sa.Unicode(), TEXTS),
    (sa.CHAR(5), ["a", "a ", "abcde", "A"]),
    (sa.Integer(), [0, 1, True, False, -7, 2**31 - 1]),
    (sa.BigInteger(), [0, 1, 2**40, -(2**63)]),
    (sa.SmallInteger(), [0, 1, 300]),
    (sa.Numeric(), NUMBERS),
    (sa.Numeric(10, 2), NUMBERS),
    (sa.Numeric(10, 2, asdecimal=False), [1, 2.5, 7.25, Decimal("7.25")]),
    (sa.Float(), [*NUMBERS, 0.1 + 0.2, 1e300, 3e9]),
    (sa.Float(53), NUMBERS),
    (sa.Double(), NUMBERS),
    (sa.REAL(), [0.5, 1, 2.25]),
    (sa.Boolean(), [True, False, 1, 0]),
    (sa.Date(), [DAY, date(1, 1, 1), NAIVE]),
    (sa.DateTime(), [NAIVE, NAIVE + timedelta(days=1), DAY]),
    (sa.DateTime(timezone=True), [NOON, NOON.astimezone(EAST), NOON + timedelta(1)]),
    (sa.Time(), [time(1, 2, 3, 4), time(0)]),
    (sa.Interval(), [timedelta(1), timedelta(hours=24), timedelta(microseconds=1)]),
    (sa.Uuid(), [ONE, UUID(int=5)]),
    (sa.Uuid(as_uuid=False), [str(ONE), str(UUID(int=5))]),
    (sa.LargeBinary(), [b"", b"a", b"\0", bytearray(b"x")]),
    (sa.Enum(Size), [Size.SMALL, "LARGE", Size.LARGE]),
    (sa.Enum("a", "b", name="letters"), ["a", "b"]),
    (Doubled(), [1, "1", 2.0, True]),
    (Loose(), [1, True, "1", 1.0, [1], {"a": 1}]),
    (Lowered(), ["a", "A", "b"]),
    (Loud(), ["a", "A", "b"]),
    (sa.Numeric(5), [Decimal("1.4"), 1, 2]),
    (sa.String().with_variant(sa.String(collation="NOCASE"), "sqlite"), ["b", "B"]),
    (sa.String().with_variant(pg.CITEXT(), "postgresql"), ["Ann", "ANN", "bob"]),
]
# A column makes numbers of texts there, or the other way round.
SQLITE: list[tuple[Any, list[Any]]] = [
    (sa.Integer(), [1, "1", "01", 2, "2", "x", "1x"]),
    (sa.Integer(), ["1", "01", " 1", "2"]),
    (sa.String(), [1, "1", 1.0, "1.0", b"1", 2]),
    (sa.String(), [0.1 + 0.2, 0.3, 0.5]),
    (sa.Float(), ["1", "1.0", 1, "x"]),
    (sa.Boolean(), [1, False]),
    (sa.JSON(), [1, 1.0, "1", [1], {"a": 1}]),
]
POSTGRESQL: list[tuple[Any, list[Any]]] = [
    (pg.CITEXT(), ["Ann", "ANN", "bob", "Ann "]),
    (
        pg.JSONB(),
        [1, True, 1.0, "1", [1, {"a": None}], {"a": 1, "b": 2}, {"b": 2, "a": 1}],
    ),
    (
        pg.HSTORE(),
        [{"a": "b"}, {"a": None}, {"b": "1", "a": "2"}, {"a": "2", "b": "1"}],
    ),
    (
        pg.INET(),
        ["10.0.0.1", "10.0.0.1/32", ip_address("10.0.0.1"), "::1", "10.0.0.0/8"],
    ),
    (pg.CIDR(), ["10.0.0.0/8", ip_network("10.0.0.0/8"), "10.1.0.0/16"]),
    (pg.MACADDR(), ["08:00:2b:01:02:03", "08-00-2B-01-02-03"]),
    (pg.MACADDR8(), ["08:00:2b:01:02:03:04:05"]),
    (pg.OID(), [1, 2]),
    (pg.BYTEA(), [b"", b"a"]),
    (pg.UUID(), [ONE, str(ONE).upper()]),
    (pg.TSVECTOR(), ["a b", "'a' 'b'", "c"]),
    (
        pg.INT4RANGE(),
        [pg.Range(1, 3), pg.Range(1, 2, bounds="[]"), pg.Range(empty=True)],
    ),
    (pg.INT8RANGE(), [pg.Range(1, 2), pg.Range(2**40, None)]),
    (pg.NUMRANGE(), [pg.Range(1, 2), pg.Range(Decimal("1.50"), 2)]),
    (pg.DATERANGE(), [pg.Range(DAY, None), pg.Range(None, DAY)]),
    (pg.TSRANGE(), [pg.Range(NAIVE, None)]),
    (pg.TSTZRANGE(), [pg.Range(NOON, None), pg.Range(NOON.astimezone(EAST), None)]),
    (pg.INT4MULTIRANGE(), [[pg.Range(1, 2), pg.Range(5, 7)], [pg.Range(1, 2)]]),
    (pg.ARRAY(sa.Integer), [[1], [1, 2], []]),
    (pg.ARRAY(sa.Integer), [[1], [True], [2]]),
    (
        pg.ARRAY(sa.String),
        [["a"], ["a", None], ["A"], [], ["NULL", 'b"\\', "{}", "c,d", "", " "]],
    ),
    (pg.ARRAY(sa.String(2)), [["ab"], ["abc"]]),
    (pg.ARRAY(sa.Numeric(5, 2)), [[Decimal("1.004")], [Decimal(1)], [Decimal("NaN")]]),
    (pg.ARRAY(sa.Float), [[0.1], [1e300, float("inf")], [-0.0]]),
    (pg.ARRAY(sa.Boolean), [[True, False], [None]]),
    (pg.ARRAY(sa.Date), [[DAY, date(1, 1, 1)], [DAY]]),
    (pg.ARRAY(sa.Uuid), [[ONE]]),
    (sa.ARRAY(sa.Integer, dimensions=2), [[[1], [2]], [[1, 2]]]),
    (pg.TIMESTAMP(precision=0), [NAIVE, NAIVE.replace(microsecond=0)]),
    (pg.TIMESTAMP(timezone=True), [NOON, NOON.astimezone(EAST)]),
    (pg.TIME(precision=0), [time(1, 2, 3), time(1, 2, 4)]),
    (pg.INTERVAL(), [timedelta(1), timedelta(hours=24)]),
    (
        pg.INTERVAL(fields="DAY"),
        [timedelta(1), timedelta(1, 7), timedelta(hours=30), timedelta(2)],
    ),
    (
        pg.INTERVAL(precision=0),
        [timedelta(0, 2), timedelta(0, 1, 600_000), timedelta(0, 1)],
    ),
    (pg.DOUBLE_PRECISION(), NUMBERS),
    (pg.ENUM("a", "b", name="signs"), ["b", "a"]),
    (sa.String(collation="C"), ["a", "A"]),
]

each_type = pytest.mark.parametrize(
    ("backend", "type_", "values"),
    [
        pytest.param(
            *(backend, type_, values),
            id=f"{backend}-{number}-{type_!r}",
        )
        for backend in ("sqlite+aiosqlite", *POSTGRES)
        for number, (type_, values) in enumerate(
            GENERIC + (SQLITE if backend.startswith("sqlite") else POSTGRESQL)
        )
    ],
    indirect=["backend"],
)
