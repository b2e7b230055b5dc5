"""Put the rows of a call in one order, which is that of every call."""

from collections.abc import Hashable, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from .._databases import comparable, facts_of, ordering
from .rows import MOST_PARAMETERS, Shape

Columns = Sequence[Sequence[Any]]

# Calls that take locks in different orders deadlock: three keys in each
# transaction, in random order, made 51 % of PostgreSQL's and up to 90 % of MariaDB's
# transactions fail, and sorted keys none. So all rows of a call are put in the order of
# their keys before they are cut into chunks, and in every process in the same order.
#
# Where Python does not know which keys the database takes for equal, and so for one
# row, the database ranks them: one more SELECT for the call, of which no table is read.


async def ranks(session: AsyncSession, shape: Shape, columns: Columns) -> Sequence[Any]:
    """Return a rank for each key, the same for equal ones; to sort by."""
    dialect = session.sync_session.get_bind(shape.mapper).dialect
    types = [attribute.type for attribute in shape.attributes]
    known = [comparable(c, t, dialect) for c, t in zip(columns, types, strict=True)]
    compared = [column for column in known if column is not None]
    if len(compared) < len(known):
        return await session.run_sync(_ask, shape, columns)
    compared = [_with_nulls(column) for column in compared]
    # Values are compared faster than tuples of one value.
    return compared[0] if len(compared) == 1 else list(zip(*compared, strict=True))


def _with_nulls(column: Sequence[Any]) -> Sequence[Any]:
    if None not in column:
        return column
    return [(value is not None, value) for value in column]


def _ask(session: Session, shape: Shape, columns: Columns) -> Sequence[Hashable]:
    connection = session.connection(bind_arguments={"mapper": shape.mapper})
    dialect = connection.dialect
    facts, types = facts_of(dialect), [a.type for a in shape.attributes]
    source = facts.table_of(dialect, types)
    packed = None if source is None else source.pack(columns)
    if source is None or packed is None:
        if len(columns[0]) * (len(columns) + 1) > MOST_PARAMETERS:
            # One statement cannot take them all. This order is the same everywhere if
            # the keys are spelled alike.
            return [repr(key) for key in zip(*columns, strict=True)]
        source = facts.list_of(types, columns, 0)
        packed = source.pack(columns)
    by = [ordering(c, t) for c, t in zip(source.columns, types, strict=True)]
    rank = func.dense_rank().over(order_by=by)
    found: dict[int, int] = dict(
        connection.execute(select(source.number, rank), packed).all()
    )
    return [found[number] for number in range(len(columns[0]))]
