"""Let a session of a call's own refer to the caller's instances."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapper

from .._new_row import is_mapping


async def adopted(session: AsyncSession, values: Any) -> Any:
    """Return the values with the session's own instances in place of the caller's."""
    if not is_mapping(values) or not _has_instances(values.values()):
        return values
    return {name: await _adopted(session, value) for name, value in values.items()}


class KeptRows:
    """The rows of a bulk call, which each of its transactions reads anew."""

    # It has no length if the caller's rows have none: progress reports tell of that.

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = list(rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


async def adopted_rows(session: AsyncSession, rows: Any) -> Any:
    """Return the rows of a bulk call, with the session's own instances in them."""
    if is_mapping(rows) or isinstance(rows, str | bytes):
        return rows  # The verb refuses it.
    values: list[Any] = list(rows)
    mappings = [row for row in values if is_mapping(row)]
    plain = [row for row in values if not is_mapping(row)]
    if not _has_instances(chain(plain, *(row.values() for row in mappings))):
        return rows
    return [
        await adopted(session, row) if is_mapping(row) else await _adopted(session, row)
        for row in values
    ]


def _has_instances(values: Iterable[Any]) -> bool:
    kinds = set[type[Any]](map(type, values))
    return any(isinstance(inspect(kind, raiseerr=False), Mapper) for kind in kinds)


async def _adopted(session: AsyncSession, value: Any) -> Any:
    state: Any = inspect(value) if _has_instances([value]) else None
    if state is None or state.identity is None:
        return value
    own = await session.get(state.mapper.class_, state.identity)
    if own is None:
        name = state.mapper.class_.__name__
        msg = (
            f"the {name} that the call refers to has no row that another transaction "
            "can see; commit it first, or call with the session that has it"
        )
        raise ValueError(msg)
    return own
