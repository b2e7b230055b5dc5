"""The ways to get or create a row that the storms compare, and what they store."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy import String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import (
    Event,
    Outcome,
    Policy,
    UniqueMixin,
    get_or_create,
    get_or_create_many,
    update_or_create,
)

Ask = Callable[[AsyncSession, str, Policy], Awaitable[bool]]


class Base(DeclarativeBase): ...


class Tag(UniqueMixin, Base):
    __tablename__ = "storm_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    uses: Mapped[int] = mapped_column(default=0)


class Note(Base):
    __tablename__ = "storm_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50))


async def get_by_hand(session: AsyncSession, name: str, _: Policy) -> bool:
    """The recipe that people copy, with the lock that InnoDB needs."""
    statement = select(Tag).filter_by(name=name)
    if (await session.scalars(statement)).one_or_none() is not None:
        return False
    try:
        async with session.begin_nested():
            session.add(Tag(name=name))
    except IntegrityError:
        if session.get_bind().dialect.name in {"mysql", "mariadb"}:
            statement = statement.with_for_update(read=True)
        (await session.scalars(statement)).one()
        return False
    return True


async def update_by_hand(session: AsyncSession, name: str, policy: Policy) -> bool:
    """The same, and a lock on the row before it is changed."""
    created = await get_by_hand(session, name, policy)
    statement = select(Tag).filter_by(name=name).with_for_update()
    tag = (await session.scalars(statement)).one()
    async with session.begin_nested():
        tag.uses = Tag.uses + 1
    return created


async def get(session: AsyncSession, name: str, policy: Policy) -> bool:
    tag, created = await get_or_create(session, Tag, name=name, policy=policy)
    assert tag.name == name
    return created


async def update(session: AsyncSession, name: str, policy: Policy) -> bool:
    tag, created = await update_or_create(
        session,
        Tag,
        name=name,
        defaults={"uses": Tag.uses + 1},
        create_defaults={"uses": 1},
        policy=policy,
    )
    assert tag.name == name
    return created


async def many(session: AsyncSession, name: str, policy: Policy) -> bool:
    names = [name, name]
    found = await get_or_create_many(session, Tag, names, key="name", policy=policy)
    assert [tag.name for tag, _ in found] == names
    return found[0][1]


async def unique(session: AsyncSession, name: str, policy: Policy) -> bool:
    events: list[Event] = []
    policy = replace(policy, observer=events.append)
    tag = await Tag.as_unique(session, name=name, policy=policy)
    assert tag.name == name
    return events[-1].outcome is Outcome.CREATED


class Way(NamedTuple):
    """How a storm asks for a row."""

    ask: Ask
    policy: Policy = Policy()
    # The way that people write by hand, to be compared with.
    by_hand: str = "get by hand"


_NATIVE: Final = Policy(strategy="native")
UPDATES: Final = (update, update_by_hand)
WAYS: Final = {
    "get by hand": Way(get_by_hand),
    "get, savepoint": Way(get),
    "get, native": Way(get, _NATIVE),
    "update by hand": Way(update_by_hand),
    "update, savepoint": Way(update, by_hand="update by hand"),
    "update, native": Way(update, _NATIVE, by_hand="update by hand"),
    "many": Way(many),
    "as_unique, savepoint": Way(unique),
    "as_unique, native": Way(unique, _NATIVE),
}
