"""Let SQLite's transactions begin in turn, whatever code begins them."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, PoolProxiedConnection, StaticPool, event
from sqlalchemy.engine import Dialect, ExceptionContext
from sqlalchemy.util import await_only

from .line import Hold, Line, enter, is_in_transaction
from .savepoints import Savepoints, execute, is_busy, locked

_KEY: Final = "_async_goc_writer"
_IS_READER: Final = "async_goc.is_reader"


# The writer's lock is taken where a transaction begins, and there is one such place:
# SQLAlchemy calls its dialect's ``do_begin``. The event "begin" comes just before, and
# was used until its errors were looked at: a listener that raises (SQLite is busy, the
# task is cancelled in line) leaves a Connection that takes itself for one that begins,
# and never begins a transaction again, so that all it writes is committed at once. What
# ``do_begin`` raises is treated like the error of any statement.
#
# Each engine has a dialect of its own, and shares it with the engines derived from it.
# So the functions are replaced on that one object, which also keeps the `Writer`.


class Writer:
    """The turns of one engine's transactions, in all event loops."""

    # Two threads may meet one engine at the same time, and it gets one writer.
    guard: ClassVar = Lock()

    def __init__(self, engine: Engine) -> None:
        dialect: Any = engine.dialect
        # The statement that begins a transaction; None: sqlite3 begins them.
        self.statement: str | None = None
        # The transactions inside another one's, on a shared connection.
        self._inner = Savepoints()
        # Seconds for which one transaction may keep the others waiting.
        self.limit = 5.0
        # The engine that only reads, where one was asked for. It has no options of the
        # caller's, because all copies of the engine share it.
        self.reader: Engine | None = None
        # The process that opened its connections.
        self.reader_process = 0
        # All sessions share one connection, so even readers take turns.
        self._is_shared = isinstance(engine.pool, StaticPool)
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, Line]
        self._lines = WeakKeyDictionary()
        # The driver's connections in AUTOCOMMIT. An execution option says it in the
        # caller's spelling; all that sets a level, or resets it, comes by the dialect.
        self._autocommits: WeakSet[Any] = WeakSet()
        self._set_level = dialect.set_isolation_level
        dialect.set_isolation_level = self.set_isolation_level
        self._begin, dialect.do_begin = dialect.do_begin, self.begin
        self._commit, dialect.do_commit = dialect.do_commit, self.commit
        self._rollback, dialect.do_rollback = dialect.do_rollback, self.rollback
        event.listen(engine, "checkin", lambda *_: self.line().check())
        event.listen(engine, "handle_error", self._keep_connection)

    def begin(self, connection: PoolProxiedConnection) -> None:
        """Begin a transaction, in turn; SQLAlchemy calls this before each."""
        if connection.info.get(_IS_READER):
            execute(connection, "BEGIN")
        elif self.statement is None or (
            connection.driver_connection in self._autocommits
        ):
            if self.is_anothers(connection):
                self._run_in_turn(connection, lambda: None)
                self.line().check()  # It has begun nothing, so it keeps nobody waiting.
            self._begin(connection)
        # A listener of the caller's may have begun one.
        elif not is_in_transaction(connection) or self.is_anothers(connection):
            run = partial(execute, connection, self.statement)
            if self._is_shared or not self.statement.endswith("DEFERRED"):
                self._run_in_turn(connection, run)
            else:
                run()

    def begin_immediate(self, connection: Connection) -> None:
        """Begin, in turn, a transaction that SQLAlchemy takes for begun."""
        run = partial(connection.exec_driver_sql, "BEGIN IMMEDIATE")
        self._run_in_turn(connection.connection, run)

    def set_isolation_level(self, connection: Any, level: str) -> None:
        """Set the level, and note AUTOCOMMIT; SQLAlchemy gives it in upper case."""
        self._set_level(connection, level)
        is_in_autocommit = level == "AUTOCOMMIT"
        note = self._autocommits.add if is_in_autocommit else self._autocommits.discard
        note(connection.driver_connection)

    def commit(self, connection: PoolProxiedConnection) -> None:
        """Commit, and let the next transaction begin."""
        if connection in self._inner:
            self._inner.commit(connection)
        elif not self.is_anothers(connection):
            self._commit(connection)
        self.line().check()

    def rollback(self, connection: PoolProxiedConnection) -> None:
        """Roll back, but not another session's transaction on a shared connection."""
        # The pool sends a ROLLBACK whenever a connection returns, most often for
        # nothing. On a shared one, it would undo what another session is doing.
        if connection in self._inner:
            self._inner.rollback(connection)
        elif is_in_transaction(connection) and not self.is_anothers(connection):
            self._rollback(connection)
            self._inner.lose_all()
        self.line().check()

    def has_begun(self, connection: PoolProxiedConnection) -> bool:
        """Whether the transaction of *connection* was begun here."""
        holder = self.line().holder
        is_holder = holder is not None and holder.connection() is connection
        return self.statement is not None or is_holder

    def is_anothers(self, connection: PoolProxiedConnection) -> bool:
        """Whether another session holds the lock on this same connection."""
        is_alone = not self._is_shared or connection in self._inner
        holder = None if is_alone else self.line().holder
        held = None if holder is None else holder.connection()
        return held is not None and held is not connection

    def line(self) -> Line:
        """Return the running loop's line."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return Line(None)  # The driver fails next, and says what is missing.
        found = self._lines.get(loop)
        if found is None:
            found = Line(loop)
            with Writer.guard:
                # The future of a waiter refers to its loop. A loop that was closed in
                # the middle of a wait would therefore stay here for ever.
                for other in [each for each in self._lines if each.is_closed()]:
                    del self._lines[other]
                self._lines[loop] = found
        return found

    def _run_in_turn(
        self,
        connection: PoolProxiedConnection,
        run: Callable[[], object],
        *,
        is_last_try: bool = False,
    ) -> None:
        line = self.line()
        hold = line.hold_for(connection)
        passed = self._stand_in_line(line, hold)
        try:
            if passed is not None and self.is_anothers(connection):
                self._begin_inside(connection, line)
                return
            if not is_in_transaction(connection):
                self._inner.forget()
                run()
        except Exception as error:
            line.end(hold)
            # SQLite knows no order, so others of the line may have been quicker than
            # this, each of them for a moment only. The line has room again.
            has_room = passed is not None and passed is not line.holder
            if is_last_try or not has_room or not is_busy(error):
                raise
        else:
            # Without the lock, SQLite may have let it in: others should wait for it.
            if passed is None or line.take(hold):
                enter(hold)
            return
        finally:
            hold.has_begun = True
        self._run_in_turn(connection, run, is_last_try=True)

    def _begin_inside(self, connection: PoolProxiedConnection, line: Line) -> None:
        if not line.is_inside():
            raise locked(self.statement or "BEGIN IMMEDIATE")
        self._inner.begin(connection)

    def _stand_in_line(self, line: Line, hold: Hold) -> Hold | None:
        """Return the holder that *hold* goes past; None: it has the lock."""
        if line.take(hold):
            return None
        if line.is_in_vain():
            return line.holder
        try:
            return await_only(line.wait(hold, self.limit))
        except BaseException as error:
            error.__dict__[_KEY] = True  # It was raised in line.
            raise

    def _keep_connection(self, context: ExceptionContext) -> None:
        # SQLAlchemy closes a connection whose statement is cancelled. In line, none was
        # sent, and a database in memory would be lost with the connection.
        if _KEY in context.original_exception.__dict__:
            context.is_disconnect = False


def find_writer(engine: Engine) -> Writer | None:
    """Return what makes the engine's transactions begin in turn, if anything does."""
    return engine.dialect.__dict__.get(_KEY)


def has_line(dialect: Dialect) -> bool:
    """Whether transactions of the running loop wait for their turn to write."""
    writer: Writer | None = dialect.__dict__.get(_KEY)
    return writer is not None and writer.line().has_waiters()


def writer_of(engine: Engine) -> Writer:
    """Make the engine's transactions begin in turn, from now on."""
    with Writer.guard:
        found = find_writer(engine)
        if found is None:
            found = engine.dialect.__dict__[_KEY] = Writer(engine)
        return found


def _start_in_child() -> None:
    # It may be locked, by a thread that the child does not have.
    Writer.guard = Lock()


# Where there is no fork, `dict` takes the argument, and nothing comes of it.
_at_fork: Callable[..., object] = getattr(os, "register_at_fork", dict[str, Any])
_at_fork(after_in_child=_start_in_child)


def mark_as_reader(info: dict[Any, Any]) -> None:
    """Let transactions begin without a turn on the connection that has this *info*."""
    info[_IS_READER] = True
