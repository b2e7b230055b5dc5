"""Build statements that find rows, and insert those that are missing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    exists,
    literal_column,
    null,
    select,
    union_all,
)

from .._databases import Source

# To look, and then to insert, takes two round trips where a row is missing. One
# statement can do both: what it has found comes back beside what it had to insert. On
# a hit, nothing of the INSERT happens: no default of the table's is evaluated, no
# sequence advances, and no trigger fires for a row. But it takes the server longer, the
# right to insert, and a database that is not read-only. So it is sent only where a miss
# is expected, because the last one was a miss; and never where functions of the model's
# or of the caller's would have to be called before.
#
# Both halves see one snapshot. So the row of a rival that commits meanwhile is in
# neither: it is not found, and skipped. It has to be looked for once more.

_NUMBER: Final = "async_goc_number"


class Look(NamedTuple):
    """How one row is looked for."""

    columns: Sequence[Any]
    where: ColumnElement[bool]
    # The names of the values that its parameters take.
    values: Mapping[str, str]


def found_one(look: Look) -> CTE:
    """Return what is found of one row."""
    number: ColumnElement[int] = literal_column("0")
    return select(*look.columns, number.label(_NUMBER)).where(look.where).cte("found")


def found_among(
    columns: Sequence[Any], source: Source, where: ColumnElement[bool]
) -> CTE:
    """Return which of the source's rows are found."""
    selected = select(*columns, source.number.label(_NUMBER))
    return selected.join(source.table, where).cte("found")


def is_not(found: CTE) -> ColumnElement[bool]:
    """Return whether the one row was not found."""
    return ~exists(select(1).select_from(found))


def is_not_among(found: CTE, source: Source) -> ColumnElement[bool]:
    """Return whether a row of the source was not found."""
    return source.number.not_in(select(found.c[_NUMBER]))


def either(found: CTE, inserting: Any) -> Any:
    """Return what was found, with its number at the end, and then what was inserted."""
    made = inserting.cte("made")
    return union_all(select(*found.c), select(*made.c, null()))
