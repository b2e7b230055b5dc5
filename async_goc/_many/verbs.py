"""Get, create and update many rows, by a constant number of statements."""

from collections import Counter
from collections.abc import Callable, Sequence, Sized
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm.interfaces import ORMOption

from .._call import DEFAULT_POLICY, Call, Outcome, Policy
from .._models import T
from .._new_row import Defaults
from .input import BulkArguments, Input, Progress, Rows, check_input
from .loop import Bulk
from .rows import Row


async def get_or_create_many(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    rows: Rows,
    /,
    *,
    key: str | Sequence[str] | None = None,
    defaults: Defaults | None = None,
    options: Sequence[ORMOption] = (),
    policy: Policy = DEFAULT_POLICY,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> list[tuple[T, bool]]:
    """Return a row for each mapping, creating those that are not there.

    What holds for :func:`get_or_create` holds here, and it is all or nothing: if
    anything is raised, the transaction is as it was before the call.

    Each chunk is one SELECT; for what is missing, one INSERT that skips conflicts and
    returns what it has made; and one SELECT more if a race was lost in between. (After
    waiting for another task of this process there is another SELECT. Rows that differ
    in which columns they leave to the database's defaults take an INSERT each time
    that changes.) A model that needs the unit of work gets one flush per chunk.

    Keys are in one order over the whole call, and over all processes, so that two
    calls with one *key* cannot deadlock with each other. All of *rows* is read before
    any SQL.

    Args:
        session: The session whose transaction the rows become part of.
        model: The mapped class.
        rows: Mappings of attribute names to values; any iterable.
        key: The names that identify a row: columns, and many-to-one relationships.
            Without, those of the one unique constraint that every row covers.
        defaults: Values for the names that a new row lacks, as for
            :func:`get_or_create`; functions are called for each new row.
        options: Loader options.
        policy: How the call behaves. Its strategy does not count: rows are inserted
            by one statement wherever the model allows that.
        chunk_size: How many different keys to treat at once.
        progress: Called after each chunk with the number of *rows* done, and of all
            of them (``None`` where *rows* has no length).

    Returns:
        ``(instance, created)`` for each mapping, in their order. Mappings with equal
        keys share an instance; the first of them may have created it, by its values.

    Raises:
        ValueError: A row lacks a name of the key; or there is no key to be found.
        TypeError: An argument is of the wrong type.
        Exception: All else that :func:`get_or_create` raises.
    """
    with Call("get_or_create_many", session, model, policy) as call:
        args = BulkArguments(rows, key, (), defaults, options, chunk_size, progress)
        return await _find_or_create(call, args)


async def update_or_create_many(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    rows: Rows,
    /,
    *,
    key: str | Sequence[str] | None = None,
    defaults: Defaults | None = None,
    options: Sequence[ORMOption] = (),
    policy: Policy = DEFAULT_POLICY,
    chunk_size: int | None = None,
    progress: Progress | None = None,
    update: Sequence[str] | None = None,
) -> list[tuple[T, bool]]:
    """Return a row for each mapping, changed where it was there, created where not.

    What holds for :func:`get_or_create_many` holds here. First all that is missing is
    created; then, in the order of their keys, the others are locked, read anew and
    changed: for each chunk one SELECT … FOR UPDATE more, and by the unit of work one
    UPDATE for each set of columns that differ.

    Args:
        session: The session whose transaction the rows become part of.
        model: The mapped class.
        rows: As for :func:`get_or_create_many`.
        key: As for :func:`get_or_create_many`.
        defaults: Values for the names that a *new* row lacks.
        options: Loader options.
        policy: How the call behaves.
        chunk_size: How many different keys to treat at once.
        progress: As for :func:`get_or_create_many`.
        update: The names whose values an existing row gets, as far as its mapping has
            them. Without: all but the key and the primary key; ``[]``: none.

    Returns:
        ``(instance, created)`` for each mapping, in their order.

    Raises:
        ValueError: *update* names a part of the key, or of the primary key.
        UnknownFieldError: *update* names no attribute of the model.
        Exception: All else that :func:`get_or_create_many` raises.
    """
    with Call("update_or_create_many", session, model, policy) as call:
        args = BulkArguments(rows, key, update, defaults, options, chunk_size, progress)
        return await _find_or_create(call, args)


async def _find_or_create(
    call: Call, arguments: BulkArguments
) -> list[tuple[Any, bool]]:
    call.claim_session()
    wanted = await check_input(call, arguments)
    if wanted is None:
        call.outcome = Outcome.HIT
        return []
    async with AsyncExitStack() as stack:
        bulk = Bulk(wanted, stack)
        await _treat(bulk, wanted, _teller(arguments, wanted.asked))
    if any(row.is_created for row in wanted.asked):
        call.outcome = Outcome.CREATED
    elif bulk.has_lost:
        call.outcome = Outcome.LOST_RACE
    else:
        call.outcome = Outcome.UPDATED if wanted.changes else Outcome.HIT
    return _results(wanted.asked)


async def _treat(
    bulk: Bulk, wanted: Input, tell: Callable[[Sequence[Row]], None]
) -> None:
    """Create what is missing in all of the chunks; only then lock what is there."""
    for chunk in wanted.chunks:
        await bulk.find_or_create(chunk)
        if not wanted.changes:
            tell(chunk)
    # Inserting while holding row locks can deadlock with another call, so nothing is
    # locked until every chunk is inserted.
    for chunk in wanted.chunks if wanted.changes else ():
        there = [row for row in chunk if not row.is_created]
        if there:
            await bulk.update(there, wanted.changes)
        tell(chunk)


def _teller(
    arguments: BulkArguments, asked: Sequence[Row]
) -> Callable[[Sequence[Row]], None]:
    """Return what tells the caller of each chunk that is done."""
    progress, rows = arguments.progress, arguments.rows
    counts = Counter[Row](asked if progress is not None else ())
    total = len(asked) if isinstance(rows, Sized) else None
    done = 0

    def tell(chunk: Sequence[Row]) -> None:
        nonlocal done
        if progress is not None:
            done += sum(counts[row] for row in chunk)
            progress(done, total)

    return tell


def _results(asked: Sequence[Row]) -> list[tuple[Any, bool]]:
    results: list[tuple[Any, bool]] = []
    for row in asked:
        results.append((row.instance, row.is_created))
        # Of the mappings with one key, only the first has created the row.
        row.is_created = False
    return results
