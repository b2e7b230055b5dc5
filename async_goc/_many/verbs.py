"""Get, create and update many rows, by a constant number of statements."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import class_mapper
from sqlalchemy.orm.interfaces import ORMOption

from .._call import DEFAULT_POLICY, Call, Outcome, Policy
from .._lookup import check_options
from .._models import T
from .._new_row import Defaults
from .input import checked_size, read
from .loop import Bulk
from .rows import Row

Progress = Callable[[int, int | None], None]
Rows = Iterable[Mapping[str, Any]]


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
        call.claim_session()
        return await _find_or_create(
            call,
            model,
            rows,
            key=key,
            update=(),
            defaults=defaults,
            options=options,
            chunk_size=chunk_size,
            progress=progress,
        )


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
        call.claim_session()
        return await _find_or_create(
            call,
            model,
            rows,
            key=key,
            update=update,
            defaults=defaults,
            options=options,
            chunk_size=chunk_size,
            progress=progress,
        )


async def _find_or_create(
    call: Call,
    model: type[T],
    rows: Rows,
    *,
    key: str | Sequence[str] | None,
    update: Sequence[str] | None,
    defaults: Defaults | None,
    options: Sequence[ORMOption],
    chunk_size: int | None,
    progress: Progress | None,
) -> list[tuple[T, bool]]:
    """Check the arguments, and treat the rows a chunk at a time."""
    size = checked_size(chunk_size)
    options = check_options(model, options)
    mappings = list(rows)
    if not mappings:
        call.outcome = Outcome.HIT
        return []
    wanted = await read(
        *(call, class_mapper(model), mappings),
        key=key,
        update=update,
        defaults=defaults,
    )
    chunks = [wanted.rows[at : at + size] for at in range(0, len(wanted.rows), size)]
    total = len(mappings) if isinstance(rows, Sized) else None
    tell = _teller(progress, wanted.asked, total)
    async with AsyncExitStack() as stack:
        bulk = Bulk[T](call, wanted, stack, options)
        await _treat(bulk, chunks, wanted.changes, tell)
    if any(row.is_created for row in wanted.rows):
        call.outcome = Outcome.CREATED
    elif bulk.has_lost:
        call.outcome = Outcome.LOST_RACE
    else:
        call.outcome = Outcome.UPDATED if wanted.changes else Outcome.HIT
    return _results(wanted.asked)


def _results(asked: Sequence[Row[T]]) -> list[tuple[T, bool]]:
    results: list[Any] = []
    for row in asked:
        results.append((row.instance, row.is_created))
        row.is_created = False  # by the first mapping that has the key
    return results


async def _treat(
    bulk: Bulk[T],
    chunks: Sequence[Sequence[Row[T]]],
    changes: frozenset[str],
    tell: Callable[[Sequence[Row[T]]], None],
) -> None:
    """Create what is missing in all of the chunks; only then lock what is there.

    Inserting while holding row locks can deadlock with another call, so nothing is
    locked until every chunk is inserted.
    """
    for chunk in chunks:
        await bulk.find_or_create(chunk)
        if not changes:
            tell(chunk)
    for chunk in chunks if changes else ():
        there = [row for row in chunk if not row.is_created]
        if there:
            await bulk.update(there, changes)
        tell(chunk)


def _teller(
    progress: Progress | None, asked: Sequence[Row[Any]], total: int | None
) -> Callable[[Sequence[Row[Any]]], None]:
    """Return what is to be told of each chunk that is done."""
    counts = Counter(asked) if progress is not None else Counter[Row[Any]]()
    done = 0

    def tell(chunk: Sequence[Row[Any]]) -> None:
        nonlocal done
        if progress is not None:
            done += sum(counts[row] for row in chunk)
            progress(done, total)

    return tell
