"""Get, create and update many rows in one transaction of their own."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.interfaces import ORMOption

from .._call import Policy
from .._many import (
    Progress,
    Rows,
    get_or_create_ids,
    get_or_create_many,
    update_or_create_many,
)
from .._models import T
from .._new_row import Defaults
from .adopted import KeptRows, adopted_rows
from .own_call import OwnCall
from .retry import is_never_harmless
from .transactions import OwnTransactions, R


class BulkVerbs(OwnTransactions):
    """The verbs for many rows."""

    async def get_or_create_many(
        self,
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
        """Return the row for each mapping, creating what is missing, and commit.

        As :func:`~async_goc.get_or_create_many`, but for the transaction, which is one
        for all rows.

        Args:
            model: The mapped class.
            rows: As for :func:`~async_goc.get_or_create_many`; read once.
            key: As for :func:`~async_goc.get_or_create_many`.
            defaults: As for :func:`~async_goc.get_or_create_many`; functions are called
                again where the transaction is run again.
            options: As for :func:`~async_goc.get_or_create_many`.
            policy: As for :meth:`get_or_create`.
            chunk_size: As for :func:`~async_goc.get_or_create_many`.
            progress: As for :func:`~async_goc.get_or_create_many`; begins anew where
                the transaction is run again.

        Returns:
            ``(instance, created)`` for each mapping, in the order of *rows*, detached.
            Mappings with equal keys share an instance.

        Raises:
            Exception: All that :func:`~async_goc.get_or_create_many` raises, and
                :meth:`get_or_create` adds.
        """
        how: dict[str, Any] = {"chunk_size": chunk_size, "progress": progress}
        how |= {"key": key, "defaults": defaults, "options": options}
        with self._open("get_or_create_many", model, policy) as call:
            return await self._many(call, get_or_create_many, rows, how, are_hits)

    async def get_or_create_ids(
        self,
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
        """Return the key of the row for each mapping, creating what is missing.

        As :func:`~async_goc.get_or_create_ids`, but for the transaction, which is one
        for all rows, and committed.

        Args:
            model: The mapped class.
            rows: As for :meth:`get_or_create_many`.
            key: As for :meth:`get_or_create_many`.
            defaults: As for :meth:`get_or_create_many`.
            policy: As for :meth:`get_or_create`.
            chunk_size: As for :meth:`get_or_create_many`.
            progress: As for :meth:`get_or_create_many`.

        Returns:
            ``(primary key, created)`` for each mapping, in the order of *rows*, as for
            :func:`~async_goc.get_or_create_ids`.

        Raises:
            Exception: All that :meth:`get_or_create_many` raises.
        """
        how: dict[str, Any] = {"chunk_size": chunk_size, "progress": progress}
        how |= {"key": key, "defaults": defaults}
        with self._open("get_or_create_ids", model, policy) as call:
            return await self._many(call, get_or_create_ids, rows, how, are_hits)

    async def update_or_create_many(
        self,
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
        """Return the row for each mapping, updated or created, and commit.

        As :func:`~async_goc.update_or_create_many`, but for the transaction, which is
        one for all rows.

        Args:
            model: The mapped class.
            rows: As for :meth:`get_or_create_many`.
            key: As for :meth:`get_or_create_many`.
            defaults: As for :meth:`get_or_create_many`.
            options: As for :meth:`get_or_create_many`.
            policy: As for :meth:`get_or_create`.
            chunk_size: As for :meth:`get_or_create_many`.
            progress: As for :meth:`get_or_create_many`.
            update: As for :func:`~async_goc.update_or_create_many`.

        Returns:
            ``(instance, created)`` for each mapping, as for :meth:`get_or_create_many`.

        Raises:
            Exception: All that :func:`~async_goc.update_or_create_many` raises, and
                :meth:`get_or_create` adds.
        """
        how: dict[str, Any] = {"chunk_size": chunk_size, "progress": progress}
        how |= {"key": key, "defaults": defaults, "options": options, "update": update}
        with self._open("update_or_create_many", model, policy) as call:
            return await self._many(call, update_or_create_many, rows, how)

    async def _many(
        self,
        call: OwnCall[Any],
        verb: Callable[..., Awaitable[list[tuple[R, bool]]]],
        rows: Rows,
        how: Mapping[str, Any],
        is_harmless: Callable[[list[tuple[R, bool]]], bool] = is_never_harmless,
    ) -> list[tuple[R, bool]]:
        call.rows = 0  # As long as they have not been read.
        # An iterator could be read by the first transaction only.
        kept: Any = KeptRows(rows) if isinstance(rows, Iterator) else rows

        async def work(session: AsyncSession) -> list[tuple[R, bool]]:
            own = await adopted_rows(session, kept)
            return await verb(session, call.model, own, policy=call.inner_policy, **how)

        return await self._in_session(call, work, is_harmless=is_harmless)


def are_hits(found: list[tuple[Any, bool]]) -> bool:
    """Whether a call has created no row, and so has written nothing."""
    return not any(is_created for _, is_created in found)
