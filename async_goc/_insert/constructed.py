"""Ask a generated constructor for the values of many rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.orm.base import DEFAULT_STATE_ATTR

from .._models import SQL, columns_of
from .._new_row import construct
from .completion import empty_values

# Which defaults a generated constructor sets, and which it leaves to the columns,
# depends on the version of SQLAlchemy, or of another library. So the class makes an
# instance for each row, of which only the values of the columns are used. The instance
# that the call returns is loaded from the INSERT, as for other models.

_EMPTY: Final[Sequence[Any]] = (None, [], set[Any](), {})


def constructed(
    mapper: Mapper[Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    """Return the rows with the constructor's defaults, or why they are not enough."""
    columns = columns_of(mapper)
    loaded = [instance_dict(construct(mapper, row)) for row in rows]
    names = set[str]().union(*loaded) - {DEFAULT_STATE_ATTR} - columns.keys()
    is_more = not names <= empty_values(mapper).keys()
    if is_more or any(v.get(name) not in _EMPTY for name in names for v in loaded):
        return rows, "its constructor sets more than columns"
    made = [{n: v for n, v in values.items() if n in columns} for values in loaded]
    if any(isinstance(value, SQL) for values in made for value in values.values()):
        return rows, "its constructor sets SQL expressions"
    return made, None
