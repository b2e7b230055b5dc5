"""Say which values a database takes for equal, and in which order, if that is known."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CITEXT, INTERVAL
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from .facts import facts_of
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
    if all(value is None for value in values):
        return values
    alike = converted_to(type_, values)
    # Bytes compare as they are. A driver may wrap them in objects that do not.
    is_bytes = isinstance(type_, sa.LargeBinary)
    sent = alike if is_bytes else processed(alike, type_, dialect)
    if sent is None or not _is_plain(type_, dialect):
        return None
    sent = [None if v is None else s for v, s in zip(values, sent, strict=True)]
    kinds = kinds_of(sent)
    if len(kinds) > 1 or not kinds <= _KINDS:
        return None
    if kinds == {(datetime, False)}:
        # Python compares the clocks of one zone, which show one hour twice a year.
        return [None if value is None else value.astimezone(UTC) for value in sent]
    # NaN is equal to nothing in Python, and NUMERIC rounds.
    is_known = (
        all(value == value for value in sent)  # noqa: PLR0124
        if kinds == {float}
        else kinds != {Decimal} or all(_is_kept(v, _scale(type_)) for v in sent)
    )
    return sent if is_known else None


def _scale(type_: TypeEngine[Any]) -> int | None:
    """Return how many digits NUMERIC keeps after the point; ``None``: all."""
    inner: Any = decorated(type_)
    scale = getattr(inner, "scale", None)
    has_precision = getattr(inner, "precision", None) is not None
    return 0 if scale is None and has_precision else scale


def _is_kept(value: Decimal | None, scale: int | None) -> bool:
    """Whether NUMERIC keeps the value as it is, and does not round it."""
    if value is None:
        return True
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and (scale is None or -exponent <= scale)


_KINDS: Final[set[Any]] = {
    *(str, int, bool, float, Decimal, bytes, UUID, date, timedelta),
    *((datetime, True), (datetime, False), (time, True)),
}
_PLAIN: Final = (
    *(sa.String, sa.Integer, sa.Float, sa.Numeric, sa.Boolean, sa.LargeBinary),
    *(sa.Date, sa.DateTime, sa.Time, sa.Interval, INTERVAL, sa.Uuid),
)
# They pad, or ignore case, or keep fewer digits than a Python float.
_UNLIKE: Final = (sa.CHAR, sa.NCHAR, CITEXT, sa.REAL)


def _is_plain(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether Python and the database agree on most values of the type."""
    inner, chosen = decorated(type_), decorated(type_.dialect_impl(dialect))
    if getattr(chosen, "collation", None) is not None:
        return False
    if type_.bind_expression(sa.bindparam("any", type_=type_)) is not None:
        return False
    if facts_of(dialect).stores_as_sent:
        return True
    if not isinstance(inner, _PLAIN) or not isinstance(chosen, _PLAIN):
        return False
    if isinstance(inner, sa.Numeric) and not isinstance(inner, sa.Float):
        return inner.asdecimal
    # A float as Decimal, a UUID as text, and times with a precision, which are rounded.
    is_other = getattr(inner, "asdecimal", False) or not getattr(inner, "as_uuid", True)
    digits = [getattr(inner, name, None) for name in ("precision", "second_precision")]
    is_other = is_other or isinstance(inner, _UNLIKE) or isinstance(chosen, _UNLIKE)
    return digits == [None, None] and not is_other


def ordering(
    column: sa.ColumnElement[Any], type_: TypeEngine[Any], dialect: Dialect
) -> Any:
    """Return what to sort by, so that the order is that of columns of the type."""
    collation = getattr(decorated(type_.dialect_impl(dialect)), "collation", None)
    return column if collation is None else sa.collate(column, collation)
