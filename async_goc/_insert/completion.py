"""Make an instance readable without another ``await``."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import inspect, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.orm.interfaces import MANYTOONE, ORMOption

from .._lookup import Lookup, read, read_rivals
from .._models import readable, remembered
from .obstacles import is_watched
from .originals import is_query


async def complete_created(
    session: AsyncSession,
    instance: Any,
    options: Sequence[ORMOption],
    *,
    is_alone: bool,
) -> None:
    """Load what the INSERT left unloaded, and what the options ask for."""
    state: InstanceState[Any] = instance_state(instance)
    mapper = state.mapper
    if options:
        pairs = zip(mapper.primary_key, state.identity or (), strict=True)
        by_key = select(mapper.class_).where(*(column == v for column, v in pairs))
        # This fills in what is not loaded, and changes nothing that is.
        (await session.execute(by_key.options(*options))).unique().all()
    if state.expired_attributes:
        await complete_updated(session, instance)
    # If nothing else was created, no row can refer to the new one (triggers aside).
    is_alone = is_alone and bool(empty_values(mapper))
    if is_alone and not is_watched(session.sync_session, mapper):
        fill_empty([instance], mapper)


def fill_empty(instances: Sequence[Any], mapper: Mapper[Any]) -> None:
    """Load the relationships that nothing can have filled."""
    for name, empty in empty_values(mapper).items():
        for instance in instances:
            if name not in vars(instance):
                set_committed_value(instance, name, empty)


async def complete_updated(session: AsyncSession, instance: Any) -> None:
    """Load what only the database knows by now, such as an SQL expression's value."""
    state: InstanceState[Any] = instance_state(instance)
    expired = state.expired_attributes & readable(state.mapper)
    if expired:
        await session.refresh(instance, sorted(expired))


async def complete_found(
    session: AsyncSession, instance: Any, lookup: Lookup[Any], *, is_rivals: bool
) -> bool:
    """Load the columns that a subclass adds to the model; say if the row is there."""
    state: InstanceState[Any] = inspect(instance)
    mapper = lookup.plan.mapper
    missing = readable(state.mapper) - readable(mapper) - state.dict.keys()
    if not missing:
        return True
    if not is_rivals:
        return await session.run_sync(read, instance, missing)

    def read_again(session: Session) -> bool | None:
        return read_rivals(
            lookup, session, lambda lock: read(session, instance, missing, lock) or None
        )

    return bool(await session.run_sync(read_again))


@remembered
def empty_values(mapper: Mapper[Any]) -> dict[str, Any]:
    """Return the empty value of each relationship that a new row cannot have filled."""
    empty = filter(_is_certainly_empty, mapper.relationships)
    return {prop.key: () if prop.uselist else None for prop in empty}


def _is_certainly_empty(prop: RelationshipProperty[Any]) -> bool:
    """Whether foreign keys keep every row from referring to one that is not there."""
    if is_query(prop) or prop.viewonly or prop.direction is MANYTOONE:
        return False
    # A row of the same table could be its own child.
    return prop.mapper.base_mapper is not prop.parent.base_mapper and all(
        # A deferrable foreign key may be checked later.
        any(key.column is local and not key.deferrable for key in remote.foreign_keys)
        for local, remote in prop.local_remote_pairs or ()
    )
