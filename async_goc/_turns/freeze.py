"""Make values plain and short, and equal where SQL takes them for equal."""

import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from numbers import Integral, Real
from types import NoneType
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import JSON, LargeBinary, Uuid
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from .._databases import ignores_case, types_of

Freeze = Callable[[Any], Hashable]

# The types of most values; among them, Python's equality is every database's.
PLAIN: Final = frozenset({str, int, UUID, NoneType, bytes, date})

# The most letters or bytes that are kept of a value. Of a longer one, it is a digest.
_MOST: Final = 100
# The most letters that are folded: one of them may become eighteen.
_MOST_FOLDED: Final = 1_000
# Beyond them, texts meet that begin alike with so many letters, when folded.
_PREFIX: Final = 200
# What numbers are kept as they are. The hash of a larger one is no secret, and so a
# client could send any number of them that have the same; text and bytes it cannot.
_BIG: Final = 2**63
# What begins a value that stands for many.
_COARSE: Final = "\N{HORIZONTAL ELLIPSIS}"


# What a client sends is kept in memory after its call, so it must not decide how much
# that takes. And since it may be an instance of anything, with an __eq__ and a __hash__
# of its own, nothing is kept but what is made here of Python's own types, by functions
# that a subclass cannot override.


def freezer(type_: TypeEngine[Any], dialect: Dialect) -> Freeze:
    """Return what makes a value of that type plain, and equal where SQL's are."""
    impl = type_.dialect_impl(dialect)
    # A document's text depends on the order of its keys. Bytes can be compared as they
    # are, and a driver may wrap them in an object that cannot.
    plain: Any = (JSON, LargeBinary)
    process: Any = None if isinstance(impl, plain) else impl.bind_processor(dialect)
    alike: Any = None
    if isinstance(impl, Uuid):
        alike = _of_uuid
    elif ignores_case(impl, dialect):
        alike = _folded
    if process is None and alike is None:
        return frozen

    def freeze(value: Any) -> Any:
        # The database call raises the error for a value that the type refuses.
        with suppress(Exception):
            value = value if process is None else process(value)
        with suppress(Exception):
            if alike is not None:
                return alike(value)
        return frozen(value)

    return freeze


def frozen(value: Any) -> Any:
    """Return a short, plain equivalent that later changes of *value* do not reach."""
    if type(value) is str and len(value) <= _MOST:
        return value  # Most values are short texts.
    for base in cast("Any", type(value)).__mro__:
        if base in _BY_TYPE:
            return _BY_TYPE[base](value)
    return _of_other(value)


def freeze_all(freeze: Freeze, values: Sequence[Any]) -> Sequence[Any]:
    """Return a column's values frozen; most are short texts, or whole numbers."""
    kinds = types_of(values) if freeze is frozen else set[Any]()
    if kinds == {str} and max(map(len, values)) <= _MOST:
        return values
    if kinds == {int} and min(values) >= -_BIG and max(values) < _BIG:
        return values
    return list(map(freeze, values))


def is_coarse(value: Hashable) -> bool:
    """Whether what is frozen may stand for values that the database tells apart."""
    return isinstance(value, tuple) and value[:1] == (_COARSE,)


def _digest(kind: str, data: bytes | memoryview) -> Hashable:
    return kind, blake2b(data, digest_size=16).digest()


def _of_str(value: Any) -> Hashable:
    text = str.__str__(value)
    if len(text) <= _MOST:
        return text
    return _digest("str", text.encode(errors="surrogatepass"))


def _of_bytes(value: Any) -> Hashable:
    data = memoryview(value)
    return data.tobytes() if data.nbytes <= _MOST else _digest("bytes", data.tobytes())


def _of_int(value: Any) -> Hashable:
    number = int.__int__(value)
    if -_BIG <= number < _BIG:
        return number
    # The text of a long number takes too long to make.
    size = number.bit_length() // 8 + 1
    return "int", _of_bytes(number.to_bytes(size, "little", signed=True))


def _of_float(value: Any) -> Hashable:
    number = float.__float__(value)
    # NaN is not even equal to itself.
    return number if number == number else "nan"  # noqa: PLR0124


def _of_decimal(value: Any) -> Hashable:
    number = Decimal(value)
    if number.is_nan():
        return "nan"
    text = str(number)
    return number if len(text) <= len(str(_BIG)) else ("Decimal", _of_str(text))


def _of_uuid(value: Any) -> Hashable:
    found = value if isinstance(value, UUID) else UUID(str(value))
    # Its hash is the one of its number.
    return int.to_bytes(found.int, 16)


def _of_datetime(value: Any) -> Hashable:
    if value.tzinfo is None:
        return datetime.isoformat(value)
    # A time zone may be anything, too. Close to the ends of time there is no UTC.
    with suppress(Exception):
        return datetime.isoformat(datetime.astimezone(value, UTC))
    return _COARSE, "datetime"


def _of_address(value: Any) -> Hashable:
    return _of_str(str(value))  # An interface, say, has a network, too.


def _of_other(value: Any) -> Hashable:
    """Freeze what is of an application's own type."""
    kind = cast("Any", type(value))
    if issubclass(kind, Mapping):
        return _of_mapping(value)
    if issubclass(kind, Integral):
        return _of_int(int(value))
    if issubclass(kind, Real):
        return _of_float(float(value))
    if is_dataclass(kind):
        return _bounded([frozen(getattr(value, f.name)) for f in fields(kind)])
    # It may change, and its hash with it, so that only its type tells it apart.
    return _COARSE, kind.__name__


def _of_mapping(value: Mapping[Any, Any]) -> Hashable:
    return _of_members((frozen(k), frozen(v)) for k, v in value.items())


def _of_set(value: Any) -> Hashable:
    return _of_members(map(frozen, value))


def _of_members(members: Iterable[Any]) -> Hashable:
    # In one order: that of a set depends on how it came to be.
    return _bounded(["{}", *sorted(members, key=repr)])


def _bounded(members: Iterable[Any]) -> Hashable:
    found = tuple(members)
    text = repr(found)
    return found if len(text) <= _MOST else _digest("tuple", text.encode())


def _folded(value: Any) -> Hashable:
    """Drop what such collations may ignore: case, accents and trailing spaces."""
    text = str.__str__(value).rstrip()
    letters = unicodedata.normalize("NFKD", text[:_MOST_FOLDED].casefold())
    folded = "".join(c for c in letters if not unicodedata.combining(c)).rstrip()
    if len(text) <= _MOST_FOLDED:
        return _of_str(folded)
    return _COARSE, _of_str(folded[:_PREFIX])


# By the first of a value's types that is in here.
_BY_TYPE: Final[Mapping[type[Any], Freeze]] = {
    NoneType: lambda _: None,
    str: _of_str,
    bytes: _of_bytes,
    bytearray: _of_bytes,
    memoryview: _of_bytes,
    int: _of_int,
    float: _of_float,
    Decimal: _of_decimal,
    UUID: _of_uuid,
    datetime: _of_datetime,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.__pos__,
    # Its value may be anything, and its name stands for it.
    Enum: lambda member: frozen(member.name),
    dict: _of_mapping,
    set: _of_set,
    frozenset: _of_set,
    list: lambda values: _bounded(map(frozen, values)),
    tuple: lambda values: _bounded(map(frozen, values)),
    IPv4Address: _of_address,
    IPv6Address: _of_address,
    IPv4Network: _of_address,
    IPv6Network: _of_address,
}
