"""Read a column of many rows as one array."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.engine import Dialect

# To make an object for each row, as the driver does and then SQLAlchemy, takes as long
# as the rest of a SELECT that returns primary keys alone.


def gather(columns: Sequence[Any], dialect: Dialect) -> list[Any] | None:
    """Return an array of each column; ``None``: a driver may read it as another value.

    What is selected in one statement has one order in all of its arrays.
    """
    arrays = [_array_of(column, dialect) for column in columns]
    return None if any(array is None for array in arrays) else arrays


def _array_of(column: Any, dialect: Dialect) -> Any:
    given = column.type
    chosen = given.dialect_impl(dialect)
    plain: Any = sa.cast(column, given)
    # psycopg does not know arrays of a domain. And the database may have larger numbers
    # than the model says.
    if isinstance(chosen, sa.Integer):
        plain = sa.type_coerce(sa.cast(column, sa.BigInteger()), given)
    elif not isinstance(chosen, sa.Uuid):  # A type that decorates one is not.
        return None
    return func.array_agg(plain)
