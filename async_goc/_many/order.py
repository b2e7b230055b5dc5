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
    ranked: list[Sequence[Any]] = []
    for column, attribute in zip(columns, shape.attributes, strict=True):
        known = comparable(column, attribute.type, dialect)
        if known is None:
            rank = await session.run_sync(_ask, shape, attribute.type, column)
            ranked.append(rank)
        else:
            ranked.append(known)
    if len(ranked) == 1 and None not in ranked[0]:
        return ranked[0]
    keys = zip(*ranked, strict=True)
    if not any(None in column for column in ranked):
        return list(keys)
    # Keys with the same NULLs are one statement, and so have to stand together.
    return [(tuple([value is not None for value in key]), key) for key in keys]


def _ask(
    session: Session, shape: Shape, type_: Any, column: Sequence[Any]
) -> Sequence[Hashable]:
    there = [value for value in column if value is not None]
    connection = session.connection(bind_arguments={"mapper": shape.mapper})
    dialect = connection.dialect
    facts = facts_of(dialect)
    source = facts.table_of(dialect, [type_])
    packed = None if source is None else source.pack([there], dialect)
    if source is None or packed is None:
        if len(there) * 2 > MOST_PARAMETERS:
            # One statement cannot take them all. The order is the same everywhere, if
            # the keys are spelled alike.
            return [v if v is None else repr(v) for v in column]
        source = facts.list_of([type_], [there], 0)
        packed = source.pack([there], dialect)
    rank = func.dense_rank().over(order_by=ordering(source.columns[0], type_, dialect))
    result: Any = connection.execute(select(source.number, rank), packed)
    found: dict[int, int] = dict(result.all())
    numbers = iter(range(len(there)))
    return [v if v is None else found[next(numbers)] for v in column]
