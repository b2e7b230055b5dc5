"""Make values hashable, and equal where SQL takes them for equal."""

import unicodedata
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from numbers import Number
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import JSON, LargeBinary, Uuid
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from .._databases import IMMUTABLE_VALUES, ignores_case

Freeze = Callable[[Any], Hashable]

# Most values are of these types, which need no work at all.
PLAIN: Final = frozenset({str, int, UUID, type(None), bytes, date})
_IMMUTABLE: Final = (
    *(str, bytes, type(None), Number, Enum, UUID, date, time, timedelta),
    *(IPv4Address, IPv6Address, IPv4Network, IPv6Network),
    *IMMUTABLE_VALUES,
)


def freezer(type_: TypeEngine[Any], dialect: Dialect) -> Freeze:
    """Return what makes a value of that type hashable, and equal where SQL's are."""
    impl = type_.dialect_impl(dialect)
    # A document's text depends on the order of its keys. Bytes can be compared as they
    # are, and a driver may wrap them in an object that cannot.
    plain: Any = (JSON, LargeBinary)
    process: Any = None if isinstance(impl, plain) else impl.bind_processor(dialect)
    alike: Any = None
    if isinstance(impl, Uuid):
        alike = _as_uuid
    elif ignores_case(impl, dialect):
        alike = _folded
    if process is None and alike is None:
        return frozen

    def freeze(value: Any) -> Any:
        # The database call raises the error for a value that the type refuses.
        with suppress(Exception):
            value = value if process is None else process(value)
        with suppress(Exception):
            value = value if alike is None else alike(value)
        return frozen(value)

    return freeze


def _as_uuid(value: Any) -> UUID:
    return UUID(str(value))


def _folded(text: str) -> str:
    """Drop what such collations may ignore: case, accents and trailing spaces."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in letters if not unicodedata.combining(c)).rstrip()


def frozen(value: Any) -> Any:
    """Return a hashable equivalent that later changes of *value* do not reach."""
    if type(value) in PLAIN:
        return value
    kind = cast("Any", type(value))
    if issubclass(kind, Mapping):
        return frozenset((frozen(k), frozen(v)) for k, v in value.items())
    if issubclass(kind, set | frozenset):
        return frozenset(frozen(v) for v in value)
    if issubclass(kind, list | tuple):
        return tuple([frozen(v) for v in value])
    if issubclass(kind, bytearray | memoryview):
        return bytes(value)
    # Anything else may change, and its hash with it, so that only its type tells it
    # apart. NaN is not even equal to itself.
    is_fixed = issubclass(kind, _IMMUTABLE) and (
        not value.is_nan() if issubclass(kind, Decimal) else value == value  # noqa: PLR0124
    )
    return cast("Hashable", value if is_fixed else kind)
