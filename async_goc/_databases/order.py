"""Say which values a database takes for equal, and in which order, if that is known."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CITEXT, ENUM, INTERVAL
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from .column import types_of
from .facts import facts_of, ignores_case
from .stored import stores_another
from .uniform import converted_to, decorated, kinds_of, processed

Values = Sequence[Any]


# Two calls that lock or insert the same rows in different orders deadlock. So all calls
# need one order, in which keys have one place if the database takes them for equal,
# however they are spelled: 'Ann' and 'ANN' as CITEXT, 1.5 and 1.50 as NUMERIC, or a
# JSONB document whose members come in another order. Python has that order for plain
# values of plain types. Where it has not, the database is asked to sort the keys:
# collations, documents, ranges, types that round or pad what they store, and values of
# several types.


def comparable(
    values: Values, type_: TypeEngine[Any], dialect: Dialect
) -> Values | None:
    """Return values that compare as the database's do; ``None``: only it knows."""
    if types_of(values) <= {NoneType}:
        return values
    alike = converted_to(type_, values, dialect)
    # Bytes compare as they are. A driver may wrap them in objects that do not.
    is_bytes = isinstance(type_, sa.LargeBinary)
    sent = alike if is_bytes else processed(alike, type_, dialect)
    if sent is None or not _is_plain(type_, dialect):
        return None
    if sent is not values:
        # Of NULL, a type may make a value.
        sent = [None if v is None else s for v, s in zip(values, sent, strict=True)]
    kinds = kinds_of(sent)
    if not kinds:
        return sent  # The type stores each of them as NULL.
    if len(kinds) > 1 or not kinds <= _KINDS:
        return None
    (kind,) = kinds
    if kind == (datetime, False):
        return _in_utc(sent)
    return sent if _keeps(sent, kind, type_, dialect) else None


def _in_utc(times: Values) -> Values | None:
    """Return times as those of one zone, if Python has them."""
    # Python compares the clocks of one zone, which show one hour twice a year.
    try:
        return [None if time is None else time.astimezone(UTC) for time in times]
    except OverflowError:  # It is before the first year, or after the last one.
        return None


def may_be_refused(values: Values, type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether a value may be none of the type, and an error end the transaction."""
    if facts_of(dialect).error_undoes_statement:
        return False
    chosen = decorated(type_.dialect_impl(dialect))
    is_text = isinstance(chosen, sa.String) and not isinstance(chosen, ENUM)
    return not is_text or kinds_of(values) != {str} or "\0" in "".join(values)


def _keeps(sent: Values, kind: Any, type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether the column keeps each of the values, which are of one type, as it is."""
    there = sent
    if NoneType in types_of(sent):
        there = [value for value in sent if value is not None]
    # (NaN is equal to nothing in Python.)
    if kind is float and any(value != value for value in there):  # noqa: PLR0124
        return False
    if facts_of(dialect).stores_as_sent:
        return _has_affinity(there, kind, _affinity_of(type_, dialect))
    return _fits(there, decorated(type_.dialect_impl(dialect)))


def _affinity_of(type_: TypeEngine[Any], dialect: Dialect) -> str:
    """Return which values SQLite's column makes others of, by the name of its type."""
    try:
        name = type_.compile(dialect).upper()
    except Exception:  # noqa: BLE001 - one of the caller's own may raise anything
        return "BLOB"
    return next((a for parts, a in _AFFINITIES if parts.search(name)), "NUMERIC")


# By the rules, and in the order, of https://www.sqlite.org/datatype3.html. INTEGER and
# REAL are not told from NUMERIC: they compare a value as it does.
_AFFINITIES: Final = (
    (re.compile("INT"), "NUMERIC"),
    (re.compile("CHAR|CLOB|TEXT"), "TEXT"),
    (re.compile("BLOB|^$"), "BLOB"),
)
# A text that SQLite takes for a number.
_NUMBER: Final = re.compile(
    r"[\t-\r ]*[+-]?(\d+\.?\d*|\.\d+)(E[+-]?\d+)?[\t-\r ]*", re.ASCII | re.IGNORECASE
)


def _has_affinity(values: Values, kind: Any, affinity: str) -> bool:
    """Whether the column makes no number of a text, nor a text of a number."""
    if kind is str:
        return affinity in {"TEXT", "BLOB"} or not any(map(_NUMBER.fullmatch, values))
    return affinity != "TEXT"


def _fits(values: Values, chosen: TypeEngine[Any]) -> bool:
    """Whether PostgreSQL's column keeps each of the values, which are of one type."""
    first = values[0]
    if isinstance(first, str):
        if isinstance(chosen, ENUM):
            return set(chosen.enums).issuperset(values)
        return isinstance(chosen, sa.String) and "\0" not in "".join(values)
    if isinstance(first, Decimal):
        return all(_is_kept(value, chosen) for value in values)
    if type(first) is int:
        bits = next((b for t, b in _BITS if isinstance(chosen, t)), 0)
        return all(
            -(1 << bits) <= extreme < 1 << bits
            for extreme in (min(values), max(values))
        )
    return not isinstance(chosen, (sa.String, sa.Integer))


_BITS: Final = ((sa.SmallInteger, 15), (sa.BigInteger, 63), (sa.Integer, 31))


def _is_kept(value: Decimal, chosen: TypeEngine[Any]) -> bool:
    """Whether NUMERIC has a place for each of the digits, and does not round them."""
    exponent = value.as_tuple().exponent
    precision: int | None = getattr(chosen, "precision", None)
    scale: int | None = getattr(chosen, "scale", None)
    if not isinstance(exponent, int) or precision is None:
        return isinstance(exponent, int)
    scale = scale or 0
    return -exponent <= scale and (not value or value.adjusted() < precision - scale)


_KINDS: Final[set[Any]] = {
    *(str, int, bool, float, Decimal, bytes, UUID, date, timedelta),
    *((datetime, True), (datetime, False), (time, True)),
}
_PLAIN: Final = (
    *(sa.String, sa.Integer, sa.Float, sa.Numeric, sa.Boolean, sa.LargeBinary),
    *(sa.Date, sa.DateTime, sa.Time, sa.Interval, INTERVAL, sa.Uuid),
)


def _is_plain(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether Python and the database agree on most values of the type."""
    inner, chosen = decorated(type_), decorated(type_.dialect_impl(dialect))
    if getattr(chosen, "collation", None) is not None or ignores_case(type_, dialect):
        return False
    if type_.bind_expression(sa.bindparam("any", type_=type_)) is not None:
        return False
    if facts_of(dialect).stores_as_sent:
        return True
    if not isinstance(inner, _PLAIN) or not isinstance(chosen, _PLAIN):
        return False
    if isinstance(inner, sa.Numeric) and not isinstance(inner, sa.Float):
        return inner.asdecimal
    # A float as Decimal, a UUID as text; and what is rounded, padded or ignores case.
    is_other = getattr(inner, "asdecimal", False) or not getattr(inner, "as_uuid", True)
    is_other = is_other or isinstance(chosen, CITEXT)
    return not (is_other or stores_another(inner) or stores_another(chosen))


# Of these types, all values that are equal to the database are equal when frozen. Of
# other types that depends on how a value is given: a datetime is a day to a DATE.
_ALIKE: Final = (sa.String, sa.Integer, sa.Boolean, sa.LargeBinary)


def has_known_equality(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether values that are equal to the database are always equal when frozen."""
    inner, chosen = decorated(type_), decorated(type_.dialect_impl(dialect))
    if isinstance(chosen, (CITEXT, sa.Uuid)):
        return True
    return isinstance(inner, _ALIKE) and _is_plain(type_, dialect)


def ordering(
    column: sa.ColumnElement[Any], type_: TypeEngine[Any], dialect: Dialect
) -> Any:
    """Return what to sort by, so that the order is that of columns of the type."""
    chosen = decorated(type_.dialect_impl(dialect))
    collation = getattr(chosen, "collation", None)
    if facts_of(dialect).stores_as_sent:
        column = _with_affinity(column, _affinity_of(type_, dialect))
    elif isinstance(chosen, sa.String) and not isinstance(chosen, (CITEXT, ENUM)):
        # Other calls of the same column may have plain texts, which Python sorts.
        collation = collation or facts_of(dialect).collation
    return column if collation is None else sa.collate(column, collation)


def _with_affinity(column: Any, affinity: str) -> Any:
    """Return what SQLite's column makes of a value: a text, or maybe a number."""
    column = sa.type_coerce(column, sa.types.NULLTYPE)
    if affinity == "BLOB":
        return column
    if affinity == "TEXT":
        is_text = sa.func.typeof(column) != "blob"
        return sa.case((is_text, sa.cast(column, sa.Text)), else_=column)
    # A comparison with a number makes a number of a text that looks like one.
    number = sa.type_coerce(sa.cast(column, sa.Numeric), sa.types.NULLTYPE)
    return sa.case((column == number, number), else_=column)
