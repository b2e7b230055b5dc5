"""Let a call lose a race, as often as a test is run."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final

from sqlalchemy import Column, Engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Mapper, Session, class_mapper
from sqlalchemy.util import await_only

from .._call import writer_of
from .._databases import facts_of, find_writer, is_lock_timeout
from .._models import columns_of, default_field, uniques_of, unknown_field
from .._own import adopted
from .._turns import freezer

# Seconds that the rival waits for a lock. One that is inside of the call would wait for
# ever for a lock of the call's own transaction.
_PATIENCE: Final = 5.0


# How does a rival come between a call's look and its INSERT, and nowhere else? The
# package has no hook for that, which every miss would pay for. The engine tells of each
# statement before it is sent: when that is an INSERT of the row, the call has looked.
# Whoever listens to an engine's statements also makes creators send theirs by
# SQLAlchemy.


@asynccontextmanager
async def rival(
    sessions: async_sessionmaker[Any], model: type[Any], /, **lookup: Any
) -> AsyncGenerator[None]:
    """Let a rival insert and commit a row just before the first call that misses does.

    The rival comes after the call has looked and before its INSERT, each time: the call
    loses the race, and returns the rival's row with ``created`` being false. It comes
    once, in a session and a transaction of its own, so the pool must have a second
    connection for it. Every verb meets it, with either strategy; and so does a plain
    ``session.add()``. Its row is committed and stays: delete it as what the test itself
    has committed.

    Where a database has one writer at a time (SQLite), nobody can commit in the middle
    of another transaction. There the rival comes at the beginning of the block, which
    must not be inside a transaction that writes; the call then finds its row.

    Example:
        >>> async with rival(sessions, Tag, name="python"):
        ...     tag, created = await get_or_create(session, Tag, name="python")
        >>> assert created is False

    Args:
        sessions: Makes the rival's session. The calls that are to meet it use the same
            engine.
        model: The mapped class.
        **lookup: The rival's row: attribute names and values, for all that the model
            needs.

    Raises:
        AssertionError: No call inserted such a row in the block; or the rival could not
            insert its own, because that is there already, or because the call's
            transaction holds a lock.
        UnknownFieldError: Names are no attributes of the model.
        TypeError: The sessions share a connection, so that there are no others.
    """
    coming = _Rival(sessions, model, lookup)
    if facts_of(coming.engine.dialect).has_one_writer:
        await coming.come_first()
        yield
        return
    event.listen(coming.engine, "before_cursor_execute", coming.meet)
    try:
        yield
    finally:
        event.remove(coming.engine, "before_cursor_execute", coming.meet)
    if not coming.has_come:
        msg = (
            f"{coming} has not come, because no call of this engine inserted such a "
            "row; make the call inside of the block, for a row that is not there"
        )
        raise AssertionError(msg)


class _Rival:
    """A rival that comes once."""

    def __init__(
        self,
        sessions: async_sessionmaker[Any],
        model: type[Any],
        lookup: Mapping[str, Any],
    ) -> None:
        self._sessions, self._model, self._lookup = sessions, model, lookup
        self._mapper: Mapper[Any] = class_mapper(model)
        unknown = [n for n in lookup if default_field(self._mapper, n) is None]
        if unknown:
            raise unknown_field(self._mapper, *unknown)
        bind = writer_of(sessions().sync_session, self._mapper)
        if not isinstance(bind, Engine):
            msg = (
                "these sessions share one connection, as those of rolled_back() do, "
                "where no rival can commit; give an async_sessionmaker of the engine"
            )
            raise TypeError(msg)
        self.engine: Engine = bind
        self.has_come = False
        self._keys = list(_keys(self._mapper, bind.dialect, lookup))

    def __str__(self) -> str:
        return f"the rival's {self._model.__name__} ({', '.join(self._lookup)})"

    def meet(self, *args: Any) -> None:
        """Come before the INSERT; SQLAlchemy calls this before each statement."""
        _, _, _, _, context, _ = args
        if not self.has_come and self._is_in_the_way_of(context):
            self.has_come = True
            await_only(self._come())

    async def come_first(self) -> None:
        """Come before anything else does."""
        writer = find_writer(self.engine)
        if writer is not None and writer.line().is_inside():
            msg = (
                f"{self} cannot be committed, because a transaction has begun, and "
                "this database has one writer; enter rival() before the transaction"
            )
            raise AssertionError(msg)
        await self._come()

    def _is_in_the_way_of(self, context: Any) -> bool:
        """Whether the statement inserts a row with a key of the rival's."""
        if context is None or not context.isinsert:
            return False
        if context.compiled.dml_compile_state.dml_table not in self._mapper.tables:
            return False
        return any(map(self._is_alike, context.compiled_parameters))

    def _is_alike(self, row: Mapping[str, Any]) -> bool:
        """Whether the keys that both rows have do not all differ."""
        # Where nothing can be compared (an expression is unique, or many rows are sent
        # as one value), it is.
        known = [key for key in self._keys if key.keys() <= row.keys()]
        return not known or any(
            all(frozen == freeze(row[name]) for name, (freeze, frozen) in key.items())
            for key in known
        )

    async def _come(self) -> None:
        try:
            async with self._sessions.begin() as session:
                session.add(self._model(**await adopted(session, self._lookup)))
                await session.run_sync(self._flush)
        except Exception as error:
            # Not as it is: the call would take it for an error of its own INSERT.
            if isinstance(error, DBAPIError) and is_lock_timeout(error):
                why = (
                    f"waited {_PATIENCE:g} s for a lock, which the call's own "
                    "transaction may hold; let this row be the first that it inserts"
                )
            else:
                why = (
                    "could not be committed, for the reason above; give rival() values "
                    "for all that the model needs, and let no row be there that has "
                    "the same key"
                )
            msg = f"{self} {why}"
            raise AssertionError(msg) from error

    def _flush(self, session: Session) -> None:
        connection = session.connection(bind_arguments={"mapper": self._mapper})
        limited_waits = facts_of(connection.dialect).limited_waits
        # The database has to end the wait: not every driver's connection survives it
        # when a statement is cancelled from here.
        with limited_waits(connection, _PATIENCE) if limited_waits else nullcontext():
            session.flush()


def _keys(
    mapper: Mapper[Any], dialect: Dialect, values: Mapping[str, Any]
) -> Iterator[dict[str, tuple[Any, Any]]]:
    """Yield what is unique, as far as it is known: {parameter: (freezer, value)}."""
    columns: dict[Column[Any], Any] = {
        column: values[name]
        for name, column in columns_of(mapper).items()
        if name in values
    }
    for unique in uniques_of(mapper, dialect):
        is_plain = not (unique.expressions or unique.where)
        if is_plain and unique.columns <= columns.keys():
            freezers = {c: freezer(c.type, dialect) for c in unique.columns}
            yield {c.key: (f, f(columns[c])) for c, f in freezers.items()}
