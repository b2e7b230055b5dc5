"""Write values as PostgreSQL reads them, where a driver has no parameter for many."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from .column import types_of
from .uniform import converted_to, decorated

# An array of arrays is flattened: '{1,2}' and '{3}' cannot be items of one parameter.
# They can as texts, of which the database makes arrays. Only what it reads as drivers
# would send it is written: items of one Python type, which is that of their column. (A
# date is not: asyncpg sends the first one as -infinity.)
_KINDS: Final[Mapping[type[Any], type[Any]]] = {
    **dict.fromkeys((sa.Integer, sa.BigInteger, sa.SmallInteger), int),
    **dict.fromkeys((sa.String, sa.Text, sa.Unicode, sa.UnicodeText), str),
    **dict.fromkeys((sa.Float, sa.Double), float),
    sa.Numeric: Decimal,
    sa.Boolean: bool,
    sa.Uuid: UUID,
}


def is_written(type_: TypeEngine[Any]) -> bool:
    """Whether texts can stand for values of the type."""
    kind: type[Any] = type(type_)
    item: Any = getattr(type_, "item_type", None)
    return kind in {sa.ARRAY, ARRAY} and type(item) in _KINDS


def write(values: Sequence[Any], type_: Any) -> list[str | None] | None:
    """Return the texts of the values; ``None``: one is not like the others."""
    found: set[type[Any]] = set()
    texts = [None if value is None else _list_of(value, found) for value in values]
    is_alike = found <= {NoneType, _KINDS[type(type_.item_type)]}
    return texts if is_alike else None


def is_text(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether a text can stand for a whole array of values of the type."""
    chosen = decorated(type_.dialect_impl(dialect))
    is_other = isinstance(chosen, (CITEXT, sa.Enum, sa.CHAR, sa.NCHAR))
    return type(type_) in _STRINGS and isinstance(chosen, sa.String) and not is_other


def array_of(values: Sequence[Any], dialect: Dialect) -> str | None:
    """Return an array of texts as one text; ``None``: a value is no text."""
    # An enumeration of texts is one; a driver takes them as members of an array, too.
    found = converted_to(sa.String(), values, dialect)
    kinds = types_of(found)
    if not kinds <= {str, NoneType}:
        return None
    if kinds == {str}:
        joined = '","'.join(found)
        if "\\" not in joined and joined.count('"') == 2 * (len(found) - 1):
            return f'{{"{joined}"}}'
    return _list_of([*found], set())


def _list_of(value: object, found: set[type[Any]]) -> str:
    """Return a list, or an item of one, as a text; note the types of the items."""
    kind = type(value)
    if kind in {list, tuple}:
        items: Any = value
        return "{" + ",".join([_list_of(item, found) for item in items]) + "}"
    found.add(kind)
    return _TEXTS.get(kind, str)(value)


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_STRINGS: Final = frozenset(kind for kind, each in _KINDS.items() if each is str)
_TEXTS: Final[Mapping[type[Any], Callable[[Any], str]]] = {
    NoneType: lambda _: "NULL",
    str: _quote,
    float: repr,
}
