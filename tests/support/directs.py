"""Direct lanes, and what an instance is like, whoever has loaded it."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from async_goc._own.direct import kind_of


def direct(
    engine: AsyncEngine, model: type[Any], *names: str, defaults: Iterable[str] = ()
) -> Any:
    """The lane for calls with these names; None, if there is none."""
    probe = async_sessionmaker(engine, expire_on_commit=False)().sync_session
    return kind_of(probe, model, names, frozenset(defaults)).direct()


def seen(instance: Any) -> dict[str, Any]:
    """All that can be seen of an instance; values by their types and spellings."""
    state = inspect(instance)
    told = {
        name: (type(value), repr(value))
        for name, value in vars(instance).items()
        if name != "_sa_instance_state"
    }
    assert not state.modified
    return told | {
        "key": state.key,
        "is detached": state.detached,
        "expired": state.expired_attributes,
        "unloaded": state.unloaded,
    }


async def loaded(engine: AsyncEngine, statement: Any) -> Any:
    """The instance that a session loads."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        instance = (await session.scalars(statement)).unique().one()
        await session.commit()
    return instance
