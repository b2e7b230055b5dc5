"""Get and create rows that are committed at once, whatever becomes of the caller."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql.selectable import ForUpdateParameter

from .._call import Policy
from .._models import Criterion, T
from .._new_row import Defaults, Factory
from .._single import get_or_create, update_or_create
from .adopted import adopted
from .batch import Batch
from .bulk_verbs import BulkVerbs
from .find import Wanted, find_or_create
from .once import once

# Not to be compared with, because an array may be given by mistake.
_NO_OPTIONS: Final = ()


class GetOrCreator(BulkVerbs):
    """The verbs for rows that everybody shares, each call in its own transaction.

    For tags, tenants, labels, dimension rows: what a call creates is committed when it
    returns, and stays whatever becomes of the caller's own work. The verbs and their
    parameters are those of the functions, without the session. Every call takes a
    connection of the pool for as long as it needs one, and gives it back.

    Objects come back detached, with all that the functions load, and each call gets an
    instance of its own. The instances that a call is given, a parent to look up by or
    to refer to, may belong to any session or to none, but their rows must be committed.

    Concurrent calls of :meth:`get_or_create` for the same row share an answer, which is
    never older than the call: ``created`` is true for one, and its defaults win. With a
    *batch*, concurrent calls for different rows share statements. After a serialization
    failure, after a deadlock, and where the database is busy, a call's transaction is
    run again, as by :func:`run_in_transaction`.

    One creator serves any number of event loops and threads. Leaving its ``async with``
    closes it.

    Example:
        >>> creator = GetOrCreator(async_sessionmaker(engine), batch=Batch())
        >>> tag, created = await creator.get_or_create(Tag, name="python")

    Args:
        sessions: Makes the sessions. Their engine may not be that of a database in
            memory, where calls at the same time would share one connection.
        policy: How the calls behave. ``None``: as the sessions' own policy says, or
            else :data:`DEFAULT_POLICY`.
        attempts: How often a transaction is run at most.
        batch: How to gather concurrent calls for different rows; ``None``: not at all.

    Raises:
        ValueError: A value is out of its range.
        TypeError: An argument is of the wrong type.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[Any],
        *,
        policy: Policy | None = None,
        attempts: int = 5,
        batch: Batch | None = None,
    ) -> None:
        super().__init__(sessions, policy, attempts, batch)

    async def get_or_create(
        self,
        model: type[T],
        /,
        *criteria: Criterion,
        defaults: Defaults | None = None,
        factory: Factory[T] | None = None,
        options: Sequence[ORMOption] = (),
        with_for_update: ForUpdateParameter = None,
        policy: Policy | None = None,
        **lookup: Any,
    ) -> tuple[T, bool]:
        """Return the row that matches the lookup, creating and committing it if needed.

        As :func:`~async_goc.get_or_create`, but for the transaction.

        A hit is one SELECT without BEGIN or COMMIT, and a miss adds one INSERT, as with
        ``strategy="native"``, where nothing about the model, the call or the engine
        asks for more. (After a miss, PostgreSQL is sent one statement for both.) A
        session does all the rest; ``Event.lane`` tells which it was.

        Args:
            model: The mapped class.
            *criteria: As for :func:`~async_goc.get_or_create`.
            defaults: As for :func:`~async_goc.get_or_create`. Functions are called
                after a miss, with no connection in hand, and once, however often the
                transaction is run.
            factory: As for :func:`~async_goc.get_or_create`; called again where the
                transaction is run again.
            options: As for :func:`~async_goc.get_or_create`.
            with_for_update: As for :func:`~async_goc.get_or_create`. The lock ends with
                the call.
            policy: How the call behaves. ``None``: as the creator's policy says.
            **lookup: As for :func:`~async_goc.get_or_create`.

        Returns:
            The instance, detached, and whether this call has created its row.

        Raises:
            OutcomeUnknownError: The connection ended while the row was being committed.
            ValueError: An instance that the call refers to has no committed row.
            RuntimeError: The creator is closed.
            Exception: All that :func:`~async_goc.get_or_create` raises.
        """
        with self._open("get_or_create", model, policy) as call:
            wanted = Wanted(call, lookup, defaults, self._find_in_session)
            # (SQLAlchemy's own object for a lock has no truth value.)
            is_locking = not (with_for_update is None or with_for_update is False)
            is_special = criteria or factory is not None or is_locking
            if not is_special and options is _NO_OPTIONS:
                wanted.share()
            else:
                wanted.criteria = criteria
                wanted.how = {
                    "factory": factory,
                    "options": options,
                    "with_for_update": with_for_update,
                }
            return await find_or_create(wanted)

    async def _find_in_session(
        self, wanted: Wanted[T], defaults: Defaults | None
    ) -> tuple[T, bool]:
        call = wanted.call

        async def work(session: AsyncSession) -> tuple[T, bool]:
            return await get_or_create(
                session,
                call.model,
                *wanted.criteria,
                defaults=await adopted(session, defaults),
                policy=call.inner_policy,
                **wanted.how,
                **await adopted(session, wanted.lookup),
            )

        return await self._in_session(call, work, is_harmless=_is_hit)

    async def update_or_create(
        self,
        model: type[T],
        /,
        *criteria: Criterion,
        defaults: Defaults | None = None,
        create_defaults: Defaults | None = None,
        factory: Factory[T] | None = None,
        options: Sequence[ORMOption] = (),
        policy: Policy | None = None,
        **lookup: Any,
    ) -> tuple[T, bool]:
        """Change the row that matches the lookup, or create it, and commit.

        As :func:`~async_goc.update_or_create`, but for the transaction. It never shares
        the answer of another call.

        Args:
            model: The mapped class.
            *criteria: As for :func:`~async_goc.update_or_create`.
            defaults: As for :func:`~async_goc.update_or_create`; functions are called
                once, however often the transaction is run.
            create_defaults: As for :func:`~async_goc.update_or_create`.
            factory: As for :func:`~async_goc.update_or_create`.
            options: As for :func:`~async_goc.update_or_create`.
            policy: As for :meth:`get_or_create`.
            **lookup: As for :func:`~async_goc.update_or_create`.

        Returns:
            The instance, detached, and whether this call has created its row.

        Raises:
            Exception: All that :meth:`get_or_create` raises.
        """
        with self._open("update_or_create", model, policy) as call:
            changes, new_values = once(defaults), once(create_defaults)

            async def work(session: AsyncSession) -> tuple[T, bool]:
                return await update_or_create(
                    session,
                    model,
                    *criteria,
                    defaults=await adopted(session, changes),
                    create_defaults=await adopted(session, new_values),
                    factory=factory,
                    options=options,
                    policy=call.inner_policy,
                    **await adopted(session, lookup),
                )

            return await self._in_session(call, work)


def _is_hit(found: tuple[object, bool]) -> bool:
    return not found[1]
