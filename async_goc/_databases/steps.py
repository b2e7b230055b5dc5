"""Look for SQLite's rows, or insert them, in as few hops to its thread as there can be.

Each statement of aiosqlite's is a hop to the connection's thread and back, which takes
longer than most statements do.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Engine, PoolProxiedConnection, exc
from sqlalchemy.engine import Dialect
from sqlalchemy.util import await_only, greenlet_spawn

from .direct import (
    CANCELLED,
    Lane,
    NoAnswerError,
    NoConnectionError,
    Rows,
    Wire,
    send_on_connection,
    shielded,
)

Values = Sequence[Any]

# How aiosqlite runs a function in the connection's thread, and the connection there. It
# has no public way to run more than one statement in a hop. Without these, each
# statement is one.
RUN: Final = "_execute"
CONNECTION: Final = "_conn"


@dataclass(slots=True, eq=False)
class Step:
    """A row to look for, and how to insert it if it is missing."""

    select: Wire | None
    key: Values
    insert: Wire | None = None
    values: Values = ()
    row: Any = None
    is_created: bool = False
    # Whether there are more rows than one, so that none of them is the answer.
    is_ambiguous: bool = False


async def look(lane: Lane, engine: Engine, steps: Sequence[Step]) -> None:
    """Give each step its row, if that is there; without a transaction, or a lock."""
    await greenlet_spawn(send_on_connection, lane, engine, _look, steps)


async def write(engine: Engine, steps: Sequence[Step]) -> None:
    """Find or insert each row, in one transaction, which is committed.

    An INSERT that fails leaves its step without a row. Raises NoAnswerError where all
    of it has been undone.
    """
    await greenlet_spawn(_write, engine, steps)


def _look(_: Dialect, pooled: PoolProxiedConnection, steps: Sequence[Step]) -> Rows:
    _run(pooled.driver_connection, steps, _find)
    return ()


def _write(engine: Engine, steps: Sequence[Step]) -> None:
    try:
        connection = engine.connect()
    except exc.TimeoutError:
        raise  # As for one statement.
    except Exception as error:
        raise NoConnectionError from error
    try:
        connection.begin()
        _run(connection.connection.driver_connection, steps, _find_or_insert)
        _commit(connection)
    except GeneratorExit:
        raise  # As for one statement, too.
    except BaseException as error:
        _close(connection)
        if not isinstance(error, Exception):
            raise
        raise NoAnswerError from error
    _close(connection)


def _close(connection: Connection) -> None:
    # It rolls back what is not committed.
    with shielded():
        connection.close()


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except Exception:
        # SQLAlchemy says that the transaction has ended, and so the pool would take the
        # connection back as it is; SQLite keeps the transaction, for another attempt.
        connection.rollback()
        raise
    except BaseException as error:
        error.add_note(CANCELLED)
        raise


# What a step does on the driver's connection, by a function that executes a statement.
_Execute = Callable[[Wire, Values], Sequence[Any]]


def _find(step: Step, execute: _Execute) -> None:
    rows = () if step.select is None else execute(step.select, step.key)
    step.is_ambiguous = len(rows) > 1
    step.row = rows[0] if rows and not step.is_ambiguous else None


def _find_or_insert(step: Step, execute: _Execute) -> None:
    _find(step, execute)
    is_missing = step.row is None and not step.is_ambiguous
    if is_missing and step.insert is not None:
        rows = execute(step.insert, step.values)
        if rows:
            step.row, step.is_created = rows[0], True


def _run(
    driver: Any, steps: Sequence[Step], work: Callable[[Step, _Execute], None]
) -> None:
    """Do the work of all steps in the connection's thread, in one hop if possible."""
    run, inner = getattr(driver, RUN, None), getattr(driver, CONNECTION, None)
    if run is None or inner is None:
        _work(steps, work, lambda: driver.in_transaction, partial(_hop, driver))
        return

    def execute(wire: Wire, values: Values) -> Sequence[Any]:
        with closing(inner.execute(wire.text, values)) as cursor:
            return _typed(wire, cursor.fetchall())

    await_only(run(_work, steps, work, lambda: inner.in_transaction, execute))


def _hop(driver: Any, wire: Wire, values: Values) -> Sequence[Any]:
    return _typed(wire, await_only(driver.execute_fetchall(wire.text, values)))


def _typed(wire: Wire, rows: Sequence[Any]) -> Sequence[Any]:
    if rows:
        wire.types = (None,) * len(rows[0])
    return rows


def _work(
    steps: Sequence[Step],
    work: Callable[[Step, _Execute], None],
    is_in_transaction: Callable[[], bool],
    execute: _Execute,
) -> None:
    began_inside = is_in_transaction()
    for step in steps:
        try:
            work(step, execute)
        except Exception:  # What Python cannot convert is no error of SQLite's.
            # Most errors undo their statement, and some the whole transaction.
            step.row = None
            if is_in_transaction() is not began_inside:
                raise
