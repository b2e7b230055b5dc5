"""Put the rows of a call in one order, which is that of every call."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from .._databases import comparable, facts_of, may_be_refused, ordering
from .._models import reset_savepoint_count, savepoint_count
from .rows import Columns, Shape

Ranks = Sequence[int]

# Calls that take locks in different orders deadlock: three keys in each
# transaction, in random order, made 51 % of PostgreSQL's and up to 90 % of MariaDB's
# transactions fail, and sorted keys none. So all rows of a call are put in the order of
# their keys before they are cut into chunks, and in every process in the same order.
#
# Where Python does not know which keys the database takes for equal, and so for one
# row, the database ranks them: one more SELECT for the call, of which no table is read.
# It is the first statement that has the keys, and so the one that fails where a key is
# no value of its column. A SAVEPOINT around it keeps the caller's transaction alive.


async def ranks(session: AsyncSession, shape: Shape, columns: Columns) -> Sequence[Any]:
    """Return a rank for each key, the same for equal ones; to sort by."""
    dialect = session.sync_session.get_bind(shape.mapper).dialect
    types = [attribute.type for attribute in shape.attributes]
    ranked: list[Any] = [
        comparable(column, type_, dialect)
        for column, type_ in zip(columns, types, strict=True)
    ]
    unknown = [place for place, known in enumerate(ranked) if known is None]
    if unknown:
        asked = [(shape.attributes[place], columns[place]) for place in unknown]
        found = await session.run_sync(_ask, shape, asked)
        for place, rank in zip(unknown, found, strict=True):
            ranked[place] = rank
    first: Sequence[Any] = ranked[0]
    if len(ranked) == 1 and None not in first:
        return first
    keys = zip(*ranked, strict=True)
    if not any(None in column for column in ranked):
        return list(keys)
    # Keys with the same NULLs are one statement, and so have to stand together.
    return [(tuple([value is not None for value in key]), key) for key in keys]


def _ask(
    session: Session, shape: Shape, asked: Sequence[tuple[Any, Sequence[Any]]]
) -> list[Sequence[int | None]]:
    connection = session.connection(bind_arguments={"mapper": shape.mapper})
    found: list[Sequence[int | None]] = []
    known = [[value for value in column if value is not None] for _, column in asked]
    are_refused = any(
        may_be_refused(values, attribute.type, connection.dialect)
        for (attribute, _), values in zip(asked, known, strict=True)
    )
    with _savepoint(connection) if are_refused else nullcontext():
        for (attribute, column), values in zip(asked, known, strict=True):
            rank = iter(_rank(connection, attribute, values))
            found.append([None if value is None else next(rank) for value in column])
    return found


@contextmanager
def _savepoint(connection: Connection) -> Generator[None]:
    # The name is taken when the SAVEPOINT begins.
    count = savepoint_count(connection)
    try:
        with connection.begin_nested():
            yield
    finally:
        reset_savepoint_count(connection, count)


def _rank(connection: Connection, attribute: Any, values: Sequence[Any]) -> Ranks:
    dialect, type_ = connection.dialect, attribute.type
    facts = facts_of(dialect)
    source = facts.table_of(dialect, [type_])
    packed = None if source is None else source.pack([values], dialect)

    def ask(source: Any, packed: Any) -> Ranks:
        by = ordering(source.columns[0], type_, dialect)
        statement = select(source.number, func.dense_rank().over(order_by=by))
        result: Any = connection.execute(statement, packed)
        return [rank for _, rank in sorted(result.all())]

    def ask_page(page: Sequence[Any]) -> Ranks:
        listed = facts.list_of([attribute], [page], 0)
        return ask(listed, listed.pack([page], dialect))

    if packed is not None:
        return ask(source, packed)
    return rank_in_pages(ask_page, facts.list_parameters // 2, values)


def rank_in_pages(
    ask: Callable[[Sequence[Any]], Ranks], size: int, values: Sequence[Any]
) -> Ranks:
    """Rank any number of values by questions about *size* of them at most."""
    if len(values) <= size:
        return ask(values)
    # As in a quicksort, but with many pivots: each page is ranked together with them,
    # which tells the two between which a value lies, or the one to which it is equal.
    count = min(size // 2, -(-2 * len(values) // size))
    pivots = values[:: -(-len(values) // count)]
    groups: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
    step = size - len(pivots)
    for start in range(0, len(values), step):
        found = ask([*pivots, *values[start : start + step]])
        known = sorted(set(found[: len(pivots)]))
        for place, rank in enumerate(found[len(pivots) :], start):
            below = bisect_left(known, rank)
            groups[below, rank in known[below : below + 1]].append(place)
    ranked, last = [0] * len(values), 0
    for (_, is_pivot), places in sorted(groups.items()):
        group = [values[place] for place in places]
        inside = [1] * len(group) if is_pivot else rank_in_pages(ask, size, group)
        for place, rank in zip(places, inside, strict=True):
            ranked[place] = last + rank
        last += max(inside)
    return ranked
