"""Compare a value as the column stores it, where that is another one than was given."""

import re
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, Float, cast, type_coerce
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine, UserDefinedType

# PostgreSQL rounds what is stored in columns of these types, and compares them with the
# value as it was given: after an INSERT of 0.7 into a REAL, no row is equal to 0.7. (A
# NUMERIC rounds only what is a float to the driver.) So the value has to be cast to the
# column's type. (A cast is not always what an INSERT does: it cuts text that is too
# long for a VARCHAR(n), where an INSERT fails. SQLAlchemy itself casts an array.)
_ROUNDED: Final = re.compile(
    r"REAL|FLOAT\((1?\d|2[0-4])\)|(NUMERIC|DECIMAL).*|(TIME|TIMESTAMP)\(\d\).*"
    r"|INTERVAL.+"
)
# A CHAR(n) is filled up with blanks, and those at the end of the value do not count.
_PADDED: Final = re.compile(r"N?CHAR\(\d+\)|CHAR")
_make_dialect: Any = postgresql.dialect  # It is not typed.
_DIALECT: Final[Dialect] = _make_dialect()


class _Padded(UserDefinedType[str]):
    """A CHAR of any length: a cast to it cuts nothing."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "BPCHAR"


class _Stored(FunctionElement[Any]):
    """A value, and that value as PostgreSQL stores it."""

    inherit_cache = True


@compiles(_Stored)
def _plain(element: _Stored, compiler: SQLCompiler, **how: Any) -> str:
    given, _ = element.clauses
    return compiler.process(given, **how)


@compiles(_Stored, "postgresql")
def _as_stored(element: _Stored, compiler: SQLCompiler, **how: Any) -> str:
    _, stored = element.clauses
    return compiler.process(stored, **how)


def stores_another(type_: TypeEngine[Any]) -> bool:
    """Whether a database may store another value than a column of it is given."""
    return _stored_type(type_) is not None


def as_stored(type_: TypeEngine[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return *value* as a column of that type stores it."""
    stored = _stored_type(type_)
    if stored is None:
        return value
    # A float in a criterion is sent as one, and in an INSERT as a NUMERIC.
    is_float = isinstance(value, BindParameter) and isinstance(value.type, Float)
    sent = type_coerce(value, type_) if is_float else value
    return _Stored(value, cast(sent, stored))


def _stored_type(type_: TypeEngine[Any]) -> TypeEngine[Any] | None:
    # A domain is compared as what it is made of.
    type_ = getattr(type_, "data_type", type_)
    try:
        # The name that the column is created with: decorators and variants have theirs.
        name = type_.compile(_DIALECT)
    # An ENUM without a name, or a type that PostgreSQL lacks. One of the caller's own
    # may raise anything.
    except Exception:  # noqa: BLE001
        return None
    if _PADDED.fullmatch(name):
        return _Padded()
    return type_ if _ROUNDED.fullmatch(name) else None
