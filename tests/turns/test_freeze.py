"""Values become something plain and short that can be hashed and compared."""

import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from numbers import Integral
from types import MappingProxyType, NoneType
from typing import Any
from uuid import UUID

import pytest
from asyncpg.pgproto.pgproto import UUID as DRIVER_UUID
from hypothesis import given, strategies as st
from sqlalchemy import String
from sqlalchemy.dialects.postgresql import CITEXT, Range
from sqlalchemy.ext.asyncio import create_async_engine

from async_goc._turns.freeze import freezer, frozen, is_coarse

POSTGRESQL = create_async_engine("postgresql+asyncpg://nowhere/none").dialect
MARIADB = create_async_engine("mysql+asyncmy://nowhere/none").dialect
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.fractions()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.binary().map(bytearray)
    | st.builds(object),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers())
    ),
)
KEPT = {str, bytes, int, float, Decimal, NoneType, timedelta}


def leaves(value: Any) -> Iterator[Any]:
    """Yield what a frozen value consists of."""
    if type(value) is tuple:
        for member in value:
            yield from leaves(member)
    else:
        yield value


@given(VALUES)
def test_frozen(value: Any) -> None:
    """A frozen value is plain and short, equal to itself, and does not change."""
    before = frozen(value)
    hash(before)
    assert {type(leaf) for leaf in leaves(before)} <= KEPT
    assert sum(map(sys.getsizeof, leaves(before))) < 2_000
    assert before == frozen(value)
    if isinstance(value, list | dict | set | bytearray):
        was = frozen(value)
        value.clear()
        assert before == was


@given(st.dictionaries(st.text(), st.lists(st.integers())))
def test_equal_values_freeze_alike(value: dict[str, Any]) -> None:
    """The order of a mapping does not count, nor does the kind of a sequence."""
    other = {k: tuple(v) for k, v in reversed(value.items())}
    assert frozen(value) == frozen(MappingProxyType(other))


class Text(str):
    __slots__ = ()


class Data(bytes):
    __slots__ = ()


class Number(int):
    pass


class Ratio(float):
    pass


class Price(Decimal):
    pass


class Word(StrEnum):
    RED = "red"
    LONG = "x" * 10**6


class Mixed(str, Enum):  # noqa: UP042 - as it was before there was a StrEnum
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Colour(Enum):
    RED = ("#f00", "x" * 10**6)
    BLUE = ("#00f", "x" * 10**6)


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Pair:
    left: Any
    right: Any


class Moment(datetime):
    pass


class Id(UUID):
    pass


class Whole:
    """A number of a library's own."""

    def __int__(self) -> int:
        return 7


Integral.register(Whole)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


ALIKE: list[tuple[Any, Any]] = [
    ("red", Text("red")),
    ("red", Word.RED),
    ("red", Mixed.RED),
    ("x" * 10**6, Word.LONG),
    (b"red", Data(b"red")),
    (b"red", memoryview(b"red")),
    (1, Number(1)),
    (1, Level.LOW),
    (7, Whole()),
    (1, True),
    (1, 1.0),
    (1, Decimal("1.00")),
    (1.5, Ratio(1.5)),
    (1.5, Fraction(3, 2)),
    (Decimal("1.50"), Price("1.5")),
    (float("nan"), Decimal("NaN")),
    (UUID(int=1), Id(int=1)),
    (UUID(int=1), DRIVER_UUID(str(UUID(int=1)))),
    (NOON, NOON.astimezone(timezone(timedelta(hours=2)))),
    (NOON, Moment.fromtimestamp(NOON.timestamp(), UTC)),
    ((1, 2), [1, 2]),
    ({1, 2}, frozenset({2, 1})),
    ({"a": [1] * 99, "b": {"c": 1}}, {"b": {"c": 1}, "a": [1] * 99}),
    ({8, 0, 16}, {16, 0, 8}),
    (Range(1, 2), Range(1, 2)),
    (Pair(1, [2]), Pair(1, [2])),
    (object(), object()),
    (Access.READ | Access.WRITE, Access.READ | Access.WRITE),
]


def test_alike() -> None:
    """What is equal in a database is equal, of whatever class its value is."""
    for one, other in ALIKE:
        assert frozen(one) == frozen(other)
        assert hash(frozen(one)) == hash(frozen(other))


APART: list[tuple[Any, Any]] = [
    ("a", b"a"),
    ("a" * 999, b"a" * 999),
    ("a" * 998 + "b", "a" * 999),
    ("a" * 999, "a" * 1_000),
    ("\ud800" * 999, "\ud801" * 999),
    ([-1] * 999, [-2] * 999),
    (2**4_000, 2**4_000 + 1),
    (2**64, -(2**64)),
    (Decimal("1e-400000"), Decimal("1e-400001")),
    (date(2026, 1, 1), datetime(2026, 1, 1)),  # noqa: DTZ001
    (NOON, NOON.replace(tzinfo=None)),
    (time(1), time(2)),
    (ip_address("10.0.0.1"), ip_interface("10.0.0.1/8")),
    (ip_address("::1"), ip_network("::1")),
    (Colour.RED, Colour.BLUE),
    (Access.READ, Access.WRITE),
    ([], {}),
    ({"a": 1}, {"a": 2}),
    (Range(1, 2), Range(1, 3)),
    (Pair(1, 2), Pair(2, 1)),
    (object(), Exception()),
]


def test_not_alike() -> None:
    """What a database tells apart is told apart, long or short."""
    for one, other in APART:
        assert frozen(one) != frozen(other)


MEGABYTE = "x" * 10**6


LONG: list[Any] = [
    MEGABYTE,
    Text(MEGABYTE),
    Word.LONG,
    "\N{EURO SIGN}" * 10**6,
    MEGABYTE.encode(),
    Data(MEGABYTE.encode()),
    bytearray(10**6),
    memoryview(bytes(10**6))[::2],
    2 ** (8 * 10**6),
    Number(2 ** (8 * 10**6)),
    Decimal("1" * 10**6),
    ip_address(f"::1%{MEGABYTE}"),
    Range(MEGABYTE, MEGABYTE + "y"),
    Range(Decimal("1" * 10**6), None),
    Pair(MEGABYTE, MEGABYTE),
    Colour.RED,
    [MEGABYTE] * 3,
    [0] * 10**5,
    [["x" * 90]] * 10**4,
    {MEGABYTE: {MEGABYTE: MEGABYTE}},
    {str(number): [number] for number in range(10**4)},
    set(range(10**5)),
    MappingProxyType({MEGABYTE: 1}),
]


def test_long_values() -> None:
    """Of a value of any size, no more than a digest is kept."""
    for value in LONG:
        kept = list(leaves(frozen(value)))
        assert {type(leaf) for leaf in kept} <= KEPT
        assert sum(map(sys.getsizeof, kept)) < 1_000


def test_hashes_are_not_the_clients_choice() -> None:
    """Values that Python gives one hash are kept as values with many."""
    step = sys.hash_info.modulus
    numbers = [1 + step * number for number in range(100, 1_100)]
    for values in (
        numbers,
        [UUID(int=n) for n in numbers],
        [Decimal(n) for n in numbers],
    ):
        assert len(set(map(hash, values))) == 1
        assert len({hash(frozen(value)) for value in values}) == len(values)


class Evil:  # noqa: PLW1641 - its __hash__ is below
    """Whatever is asked of it raises."""

    def __eq__(self, _: object) -> bool:
        raise MemoryError

    __hash__ = __ne__ = __lt__ = __len__ = __bool__ = __eq__  # type: ignore[assignment]
    __str__ = __repr__ = __format__ = __iter__ = __eq__  # type: ignore[assignment]
    __int__ = __float__ = __index__ = __eq__  # type: ignore[assignment]


class EvilZone(tzinfo):
    utcoffset = dst = tzname = Evil.__eq__  # type: ignore[assignment]


def evil(base: type[Any]) -> Any:
    return type(f"Evil{base.__name__}", (Evil, base), {})


@dataclass(eq=False)
class EvilPair(Evil):
    left: Any


EVIL: list[tuple[Any, Any]] = [
    (evil(str)("red"), "red"),
    (evil(str)(MEGABYTE), MEGABYTE),
    (evil(bytes)(b"red"), b"red"),
    (evil(int)(7), 7),
    (evil(int)(7**999), 7**999),
    (evil(float)(1.5), 1.5),
    (evil(Decimal)("1.5"), Decimal("1.5")),
    (evil(UUID)(int=1), UUID(int=1)),
    (evil(date)(2026, 1, 1), date(2026, 1, 1)),
    (evil(timedelta)(1), timedelta(1)),
    (EvilPair(evil(str)("red")), ("red",)),
    ([evil(str)("red")], ["red"]),
    ({"a": evil(int)(1)}, {"a": 1}),
]


def test_evil_values() -> None:
    """Nothing of a value's own class is called, then or later."""
    for value, like in EVIL:
        kept = frozen(value)
        assert {type(leaf) for leaf in leaves(kept)} <= KEPT
        assert kept == frozen(like)


def test_what_can_be_told_by_its_type_only() -> None:
    """Of what may change, or raises, no more than its type is known."""
    aware = datetime(2026, 1, 1, tzinfo=EvilZone())
    for value in (Evil(), object(), 1j, aware, datetime.min.replace(tzinfo=UTC)):
        kept = frozen(value)
        assert is_coarse(kept) or value.year == 1
        hash(kept)
    assert not is_coarse(frozen("x"))
    assert not is_coarse(frozen([]))


@pytest.mark.parametrize(
    ("type_", "dialect"), [(CITEXT(), POSTGRESQL), (String(99), MARIADB)]
)
def test_folding_is_bounded(type_: Any, dialect: Any) -> None:
    """Texts without case are compared by what they begin with, if they are long."""
    freeze = freezer(type_, dialect)
    ligature = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"
    tracemalloc.start()
    try:
        kept = freeze(ligature * 10**6)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 10**6
    assert is_coarse(kept)
    assert kept == freeze(ligature * 10**6 + "y")
    assert freeze("\xc4" * 5_000) == freeze("a" * 5_000) != freeze("b" * 5_000)
    assert freeze("\xc4" + " " * 10**4) == freeze("a")
    assert not is_coarse(freeze("a" * 500))
    assert freeze("A" * 500) == freeze("a" * 500) != freeze("a" * 501)
    assert freeze(evil(str)("A")) == freeze("a")
    assert freeze(5) == 5
    assert freeze(None) is None


def test_mappings_of_any_class() -> None:
    """A mapping is one by what it can do."""

    class Own(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return len(key)

        def __iter__(self) -> Iterator[str]:
            return iter("ab")

        def __len__(self) -> int:
            return 2

    assert frozen(Own()) == frozen({"a": 1, "b": 1})
