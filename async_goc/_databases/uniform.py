"""Give a driver values of one Python type for one column."""

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

from sqlalchemy.engine import Dialect
from sqlalchemy.types import Float, Numeric, TypeDecorator, TypeEngine

from .column import types_of

Values = Sequence[Any]


# JSON has one kind of number, so the values of one column come as int and float, and
# enumerations come as subclasses of str. A parameter for one value takes any of them.
# An array has one type for all: psycopg refuses a mixture, and sends naive and aware
# times as different types.


def uniform(values: Values, type_: TypeEngine[Any], dialect: Dialect) -> Values | None:
    """Return the values as one Python type; ``None``: they have none in common."""
    kinds = kinds_of(values)
    is_plain = len(kinds) <= 1 and not _has_lists(kinds)
    if is_plain and not isinstance(type_, TypeDecorator):
        return values
    converted = converted_to(type_, values, dialect)
    # A decorated type may make values of several types out of one.
    sent = processed(converted, type_, dialect)
    sent_kinds = kinds_of(sent or ())
    if sent is None or len(sent_kinds) > 1 or _has_lists(sent_kinds):
        return None
    return converted


def _has_lists(kinds: set[Any]) -> bool:
    """Whether an array of the values would be one of arrays."""
    return any(isinstance(k, type) and issubclass(k, (list, tuple)) for k in kinds)


def processed(
    values: Values, type_: TypeEngine[Any], dialect: Dialect
) -> Values | None:
    """Return the values as the driver gets them; ``None``: the type refuses one."""
    process = type_.dialect_impl(dialect).bind_processor(dialect)
    with suppress(Exception):  # The statement that sends the value raises it.
        return values if process is None else list(map(process, values))
    return None


def decorated(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type that a TypeDecorator decorates, or else the type itself."""
    return type_.impl_instance if isinstance(type_, TypeDecorator) else type_


def converted_to(type_: TypeEngine[Any], values: Values, dialect: Dialect) -> Values:
    """Return the values as the type's own Python type, where they are all like it."""
    if isinstance(type_, TypeDecorator):
        return values
    try:
        kind = type_.python_type
        if isinstance(type_, Numeric) and not isinstance(type_, Float):
            kind = Decimal
        convert = _CONVERSIONS[kind]
        if kind is Decimal and dialect.driver in _FEW_DIGITS:
            convert = _as_short_decimal
        if types_of(values) == {kind}:
            return values  # Most are.
        return [None if value is None else convert(value) for value in values]
    # There is no such type, or a value is not like it. The database says so.
    except (LookupError, NotImplementedError, TypeError, ValueError, ArithmeticError):
        return values


def kinds_of(values: Values) -> set[Any]:
    """Return the types of all values but None; of times, and whether they are naive."""
    kinds = types_of(values) - {NoneType}
    if kinds & {datetime, time}:
        there = (value for value in values if value is not None)
        return {(type(v), getattr(v, "tzinfo", None) is None) for v in there}
    return kinds


# Drivers that send a float as one: PostgreSQL makes a NUMERIC of 15 digits of it.
_FEW_DIGITS: Final = {"psycopg"}


def _as_float(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError
    return float(value)


def _as_decimal(value: Any) -> Decimal:
    if isinstance(value, float):
        return Decimal(value)  # All of its digits.
    return value if isinstance(value, Decimal) else Decimal(operator.index(value))


def _as_short_decimal(value: Any) -> Decimal:
    return Decimal(f"{value:.15g}") if isinstance(value, float) else _as_decimal(value)


def _as_bool(value: Any) -> bool:
    return bool({0: False, 1: True}[operator.index(value)])


def _as_datetime(value: date) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001


def _as_date(value: date) -> date:
    return value.date() if isinstance(value, datetime) else value


_CONVERSIONS: Final[Mapping[type[Any], Callable[[Any], Any]]] = {
    str: str.__str__,
    int: operator.index,
    bool: _as_bool,
    float: _as_float,
    Decimal: _as_decimal,
    datetime: _as_datetime,
    date: _as_date,
    UUID: lambda value: value if isinstance(value, UUID) else UUID(value),
}
