"""Get, create and update many rows, by a constant number of statements."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Call, Policy
from .._models import T
from .._new_row import Defaults
from .answers import IDENTITIES
from .chunks import find_or_create
from .input import BulkArguments, Progress, Rows


async def get_or_create_many(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    rows: Rows,
    /,
    *,
    key: str | Sequence[str] | None = None,
    defaults: Defaults | None = None,
    options: Sequence[ORMOption] = (),
    policy: Policy | None = None,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> list[tuple[T, bool]]:
    """Return the row for each mapping, creating the rows that do not exist.

    This has the guarantees of :func:`get_or_create`, and is all or nothing: if it
    raises, the transaction is as it was before the call.

    Each chunk takes one SELECT; for missing rows, one INSERT that skips conflicts and
    returns the rows it has created; and after a lost race, or for keys that come back
    as other values than they were sent, one more SELECT. Rows of subclasses whose own
    columns the SELECT does not read take one more for each such class. Keys that only
    the database can compare (CITEXT, JSONB, ranges, collations) are sorted by one
    SELECT for the call, inside a SAVEPOINT where PostgreSQL could refuse one. (Waiting
    for another task of this process adds a SELECT. If rows differ in the columns that
    they leave to the database's defaults, each change from one row to the next starts
    another INSERT.) A model that needs the unit of work takes one flush per chunk.

    Rows are inserted and locked in the order of their keys, which is the same in every
    process, so two calls with the same *key* cannot deadlock with each other. All of
    *rows* is read before any SQL.

    Args:
        session: The session whose transaction the rows become part of.
        model: The mapped class.
        rows: Any iterable of mappings of attribute names to values; or of plain values,
            if *key* is one name: ``["a", "b"]`` with ``key="name"``.
        key: The names that identify a row: columns, and many-to-one relationships.
            ``None``: the names that make up the only unique constraint that every row
            has values for.
        defaults: Values for a new row whose mapping lacks these names, as for
            :func:`get_or_create`; functions are called again for each new row.
        options: Loader options, honoured for the rows found and the rows created.
        policy: As for :func:`get_or_create`. Its strategy is ignored: rows are
            inserted by one statement wherever the model allows that.
        chunk_size: How many different keys to process at a time.
        progress: Called after each chunk with the number of *rows* done so far, and
            the number of all *rows* (``None`` if *rows* has no length).

    Returns:
        ``(instance, created)`` for each mapping, in the order of *rows*. Mappings with
        equal keys share an instance. If this call created it, then with the values of
        the first of them, and ``created`` is true for the first only.

    Raises:
        ValueError: A row has no value for a name of the key, *key* is ``None`` and
            cannot be inferred, or an argument is out of its range.
        UnknownFieldError: A name is no attribute of the model.
        TypeError: An argument is of the wrong type.
        Exception: Anything else that :func:`get_or_create` raises.
    """
    with Call("get_or_create_many", session, model, policy) as call:
        args = BulkArguments(rows, key, (), defaults, options, chunk_size, progress)
        return await find_or_create(call, args)


async def get_or_create_ids(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[object],
    rows: Rows,
    /,
    *,
    key: str | Sequence[str] | None = None,
    defaults: Defaults | None = None,
    policy: Policy | None = None,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> list[tuple[Any, bool]]:
    """Return the primary key for each mapping, creating the rows that do not exist.

    This is :func:`get_or_create_many` without the instances: for rows that are only to
    be referred to, as by an association table, and for data that is moved in bulk. What
    is refused, which keys are equal, the order, the locks and the statements are the
    same. But the statements return no more than the keys; no instance is built, nothing
    is loaded into the session, and what it has loaded is left as it is.

    Where a model needs the unit of work, its new rows have to be objects all the same.
    They are flushed, and the session forgets them when nothing else refers to them: a
    loaded collection of a parent's that they belong to keeps them, and shows them. (A
    generated constructor makes an object for its defaults, which no session sees.)

    Args:
        session: The session whose transaction the rows become part of.
        model: The mapped class.
        rows: As for :func:`get_or_create_many`.
        key: As for :func:`get_or_create_many`.
        defaults: As for :func:`get_or_create_many`.
        policy: As for :func:`get_or_create_many`.
        chunk_size: As for :func:`get_or_create_many`.
        progress: As for :func:`get_or_create_many`.

    Returns:
        ``(primary key, created)`` for each mapping, as :func:`get_or_create_many` has
        instances. A key is a plain value, or a tuple if it is composite.

    Raises:
        Exception: Anything that :func:`get_or_create_many` raises.
    """
    with Call("get_or_create_ids", session, model, policy) as call:
        args = BulkArguments(rows, key, (), defaults, (), chunk_size, progress)
        return await find_or_create(call, args, IDENTITIES)


async def update_or_create_many(
    session: AsyncSession | async_scoped_session[AsyncSession],
    model: type[T],
    rows: Rows,
    /,
    *,
    key: str | Sequence[str] | None = None,
    defaults: Defaults | None = None,
    options: Sequence[ORMOption] = (),
    policy: Policy | None = None,
    chunk_size: int | None = None,
    progress: Progress | None = None,
    update: Sequence[str] | None = None,
) -> list[tuple[T, bool]]:
    """Return the row for each mapping, updating those that exist, creating the others.

    This has the guarantees of :func:`get_or_create_many`. All missing rows are created
    first. Then the other rows are locked in the order of their keys, refreshed and
    changed. That adds, for each chunk, one SELECT … FOR UPDATE (and one for each
    subclass with columns of its own), and the unit of work's UPDATE statements: one for
    each set of columns that differ.

    Args:
        session: The session whose transaction the rows become part of.
        model: The mapped class.
        rows: As for :func:`get_or_create_many`.
        key: As for :func:`get_or_create_many`.
        defaults: As for :func:`get_or_create_many`; for new rows only.
        options: As for :func:`get_or_create_many`.
        policy: As for :func:`get_or_create_many`.
        chunk_size: As for :func:`get_or_create_many`.
        progress: As for :func:`get_or_create_many`.
        update: The names whose values an existing row gets, if its mapping has them.
            ``None``: all names except those of the key and the primary key; ``[]``: no
            name.

    Returns:
        ``(instance, created)`` for each mapping, in the order of *rows*, as for
        :func:`get_or_create_many`.

    Raises:
        ValueError: *update* has a name of the key or of the primary key.
        UnknownFieldError: *update* has a name that is no attribute of the model.
        Exception: Anything else that :func:`get_or_create_many` raises.
    """
    with Call("update_or_create_many", session, model, policy) as call:
        args = BulkArguments(rows, key, update, defaults, options, chunk_size, progress)
        return await find_or_create(call, args)
