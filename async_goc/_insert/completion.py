"""Make an instance readable without another ``await``."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import MANYTOONE, ORMOption

from .._models import memory, readable


async def complete_created(
    session: AsyncSession,
    instance: Any,
    options: Sequence[ORMOption],
    *,
    is_alone: bool,
) -> None:
    """Load what the INSERT left unloaded, and what the options ask for.

    Args:
        session: The session.
        instance: The created instance.
        options: The loader options to honour.
        is_alone: Whether nothing but the instance was made, so that collections which
            have not been filled are empty (triggers aside).
    """
    state: InstanceState[Any] = inspect(instance)
    mapper = state.mapper
    if options:
        key = zip(mapper.primary_key, state.identity or (), strict=True)
        by_key = select(mapper.class_).where(
            *(column == value for column, value in key)
        )
        # Fills in what is not loaded, and only that.
        (await session.execute(by_key.options(*options))).unique().all()
    await complete_updated(session, instance)
    if is_alone:
        fill_empty([instance], mapper)


def fill_empty(instances: Sequence[Any], mapper: Mapper[Any]) -> None:
    """Load the relationships that nothing can have filled."""
    for name, empty in _empty(mapper).items():
        for instance in instances:
            if name not in vars(instance):
                set_committed_value(instance, name, empty)


async def complete_updated(session: AsyncSession, instance: Any) -> None:
    """Load what only the database knows by now: SQL expressions' values, say."""
    state: InstanceState[Any] = inspect(instance)
    expired = state.expired_attributes & readable(state.mapper)
    if expired:
        await session.refresh(instance, sorted(expired))


async def complete_found(
    session: AsyncSession, instance: Any, mapper: Mapper[Any]
) -> None:
    """Load the columns that a subclass adds to the model that was looked up."""
    if type(instance) is mapper.class_:
        return  # The SELECT has loaded them all.
    state: InstanceState[Any] = inspect(instance)
    missing = readable(state.mapper) - readable(mapper) - state.dict.keys()
    if missing:
        await session.refresh(instance, sorted(missing))


def _empty(mapper: Mapper[Any]) -> dict[str, Any]:
    """The relationships that a row which was not there before cannot have filled."""
    return memory(
        mapper,
        "empty",
        lambda: {
            prop.key: () if prop.uselist else None
            for prop in mapper.relationships
            if _is_certainly_empty(prop)
        },
    )


def _is_certainly_empty(prop: RelationshipProperty[Any]) -> bool:
    """Whether foreign keys say so: nothing can refer to a row that was not there."""
    is_attribute = prop.lazy not in {"dynamic", "write_only"}
    return (
        is_attribute
        and not prop.viewonly
        and prop.direction is not MANYTOONE
        and prop.mapper.base_mapper is not prop.parent.base_mapper  # its own child?
        and all(_is_enforced(*pair) for pair in prop.local_remote_pairs or ())
    )


def _is_enforced(local: Any, remote: Any) -> bool:
    """Whether a foreign key that is checked at once leads from *remote* to *local*."""
    return any(
        key.column is local and not key.deferrable for key in remote.foreign_keys
    )
