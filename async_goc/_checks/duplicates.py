"""Count the rows that stand in the way of a constraint which is to be added."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .._models import sql_text, term_of
from .drift import Place
from .finding import Finding
from .keys import Declaring, Key


def duplicates(
    connection: Connection, place: Place, declared: Declaring, key: Key
) -> Finding | None:
    """Return what to say of rows that the database would refuse, if there are some."""
    # What has no text, no database has either.
    if place.lacking(key) or None in key.expressions | key.where:
        return None
    counts: Any = connection.execute(_count(declared, place, key)).one()
    keys, most = counts
    if not keys:
        return None
    many = "1 key is" if keys == 1 else f"{keys} keys are"
    return Finding(
        "duplicates",
        "error",
        place.model,
        f"in {place.table.fullname}, {many} there more than once by ({key}), the most "
        f"frequent {most} times",
        "keep one row of each key, and move to it what refers to the others; only then "
        "can the constraint be added, and until then a lookup raises "
        "MultipleResultsFound",
    )


def _count(declared: Declaring, place: Place, key: Key) -> Any:
    """Count the keys that several rows have, and the rows of the most frequent."""
    terms = [_plain(term, place) for term in _terms(declared)]
    rows = sa.func.count().label("rows_of_key")
    groups = sa.select(rows).select_from(place.table).group_by(*terms)
    groups = groups.having(sa.func.count() > 1)
    if not key.is_null_equal:
        groups = groups.where(*(term.is_not(None) for term in terms))
    condition: Any = _condition(declared, place)
    if condition is not None:
        groups = groups.where(condition)
    found = groups.subquery()
    return sa.select(sa.func.count(), sa.func.max(found.c.rows_of_key)).select_from(
        found
    )


def _terms(declared: Any) -> list[Any]:
    return list(getattr(declared, "expressions", declared.columns))


def _plain(term: Any, place: Place) -> Any:
    """Return a term of an index without the order in which it is kept."""
    column: Any = term
    if getattr(term, "table", None) is not place.table:
        text = term_of(sql_text(term, place.dialect))
        columns: Any = place.table.columns
        column = columns.get(text, sa.literal_column(f"({text})"))
    return column


def _condition(declared: Any, place: Place) -> Any:
    where = declared.dialect_kwargs.get(f"{place.dialect.name}_where")
    return sa.text(where) if isinstance(where, str) else where
