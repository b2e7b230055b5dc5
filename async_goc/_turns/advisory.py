"""Lock keys in the database, for all processes."""

import json
from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from itertools import chain
from typing import Any, Final

from sqlalchemy.orm import Session

from .._databases import facts_of, has_known_equality
from .._lookup import Lookup, limiting_waits
from .._models import equality
from ..exceptions import IsolationError
from .key import Key, Values, Where, keys_of, label_of

# The lock is on a number of 64 bits, which every process, on every host, has to make of
# the same key; whatever Python it runs, and whichever driver. So it is a digest of a
# text that depends on nothing else. Another text would be another lock: while a new
# version of a program takes over from an old one, the two must agree.
#
# Here a key is no advice, but the judge, where no constraint is. Two keys may share a
# number, which costs a wait. But values that are equal in the database must never have
# two numbers. So a column counts only if Python knows which of its values are equal, as
# it does of plain texts, whole numbers, bytes and UUIDs; but not of times, NUMERIC,
# JSONB, CHAR(n), or a collation. Then the lock is on what is left, if only the table.
#
# The policy's namespace does not count, because one call may have it and another not.


_BIG: Final = 2**63

Group = tuple[Lookup[Any], Sequence[Values]]


def lock_keys(
    session: Session, lookup: Lookup[Any], groups: Sequence[Group], where: Where
) -> None:
    """Lock the keys of rows, by the lookup that each group is looked up by, in order.

    Raises IsolationError where the lock would be of no use.
    """
    mapper = lookup.plan.mapper
    connection = session.connection(bind_arguments={"mapper": mapper})
    all_numbers = chain.from_iterable(_numbers(*group, where) for group in groups)
    numbers = list(dict.fromkeys(all_numbers))
    if not all(all(_counts(each, where).values()) for each, _ in groups):
        # The order of the keys is none of what is left of them.
        numbers.sort()
    lock: Any = facts_of(connection.dialect).lock_keys
    with limiting_waits(lookup, session, is_guarded=False):
        level: str | None = lock(connection, numbers)
    if level is not None:
        raise IsolationError(lookup.plan.model, lookup.names, level)


def _numbers(
    lookup: Lookup[Any], rows: Sequence[Values], where: Where
) -> Sequence[int]:
    _, schemas, _ = where
    counts = _counts(lookup, where)
    table: Any = lookup.plan.mapper.local_table
    schema = getattr(table, "schema", None)
    place = [schemas.get(schema, schema), getattr(table, "name", "")]
    return [
        _digest(place if key is None else _text(key, counts))
        for key in keys_of(lookup, rows, where)
    ]


def _counts(lookup: Lookup[Any], where: Where) -> Mapping[str, bool]:
    """Return for each column, as a key calls it, whether it counts."""
    dialect = where[0].dialect
    return {
        label_of(found.left, dialect): has_known_equality(found.left.type, dialect)
        for found in filter(None, map(equality, lookup.conditions()))
    }


def _text(key: Key, counts: Mapping[str, bool]) -> Sequence[Any]:
    place, frozen, _ = key
    pairs = zip(place.columns, frozen, strict=True)
    values = [[label, _plain(v)] for label, v in pairs if counts.get(label)]
    return [place.schema, place.table, values]


def _plain(value: Hashable) -> str | None:
    if value is None or isinstance(value, str):
        return value
    number: Any = value
    if isinstance(value, (int, float, Decimal)) and abs(number) < _BIG:
        return str(round(number))  # In a column of whole numbers, 1.0 and True are 1.
    return ascii(value)


def _digest(text: Sequence[Any]) -> int:
    digest = blake2b(json.dumps(text).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
