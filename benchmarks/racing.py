"""Races: what each algorithm does beside a rival that comes after its first look."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import String, func, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import (
    Batch,
    GetOrCreator,
    KeyedLocks,
    Outcome,
    Policy,
    Stats,
    UniqueMixin,
    get_or_create,
    get_or_create_many,
    run_in_transaction,
    update_or_create,
    update_or_create_many,
)

# Seconds: how long a rival stays in flight, and waits where it is not let in.
FLIGHT, PATIENCE = 0.1, 2.0


class Base(DeclarativeBase): ...


class Tag(UniqueMixin, Base):
    __tablename__ = "isolation_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    uses: Mapped[int] = mapped_column(default=0)


class Note(Base):
    """What the caller has written before."""

    __tablename__ = "isolation_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50))


class Rival:
    """Another transaction, which takes the name after a call's first look."""

    def __init__(self, engine: AsyncEngine, name: str, scenario: str) -> None:
        self._engine, self._name, self._scenario = engine, name, scenario
        self._ending: asyncio.Task[None] | None = None
        self.has_come = self.was_let_in = False

    async def __call__(self) -> dict[str, Any]:
        """Be the defaults of a call: they are made after a miss."""
        if not self.has_come:
            self.has_come = True
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._insert()
            except (TimeoutError, OperationalError):
                pass  # The database has one writer, and it is the caller.
            else:
                self.was_let_in = True
        return {"uses": 1}

    async def _insert(self) -> None:
        connection = await self._engine.connect()
        try:
            await connection.execute(select(Tag.id).where(Tag.name == self._name))
            await connection.execute(insert(Tag).values(name=self._name, uses=0))
            if self._scenario == "committed":
                await connection.commit()
        except BaseException:
            await connection.close()
            raise
        self._ending = asyncio.create_task(self._end(connection))

    async def _end(self, connection: Any) -> None:
        if self._scenario != "committed":
            await asyncio.sleep(FLIGHT)
        if self._scenario == "in flight":
            await connection.commit()
        await connection.close()

    async def wait(self) -> None:
        if self._ending is not None:
            await self._ending


# What a call makes of a session, a name, defaults and a policy: whether it has created.
Verb = Callable[[AsyncSession, str, Rival, Policy], Awaitable[bool]]


# What an algorithm does with an engine: ask for a name, beside a rival.
Ask = Callable[[AsyncEngine, str, Rival], Awaitable[bool]]


def one(verb: Any) -> Verb:
    async def call(session: AsyncSession, name: str, rival: Rival, how: Policy) -> bool:
        _, created = await verb(session, Tag, name=name, defaults=rival, policy=how)
        return bool(created)

    return call


def many(verb: Any) -> Verb:
    async def call(session: AsyncSession, name: str, rival: Rival, how: Policy) -> bool:
        names = [name]
        [(_, created)] = await verb(
            session, Tag, names, key="name", defaults=rival, policy=how
        )
        return bool(created)

    return call


async def unique(session: AsyncSession, name: str, rival: Rival, how: Policy) -> bool:
    stats = Stats()
    heard = Policy(strategy=how.strategy, locks=how.locks, observer=stats)
    await Tag.as_unique(session, name=name, defaults=rival, policy=heard)
    return stats[Outcome.CREATED] == 1


def in_session(verb: Verb, strategy: Any, *, repeats: bool = False) -> Ask:
    """Call the verb in a transaction that has read and written before."""

    async def ask(engine: AsyncEngine, name: str, rival: Rival) -> bool:
        policy = Policy(strategy=strategy, locks=KeyedLocks())

        async def work(session: AsyncSession) -> bool:
            session.add(Note(text=name))
            await session.scalar(select(func.count()).select_from(Note))
            return await verb(session, name, rival, policy)

        sessions = async_sessionmaker(engine)
        if repeats:
            return await run_in_transaction(sessions, work)
        async with sessions.begin() as session:
            return await work(session)

    return ask


def by_creator(batch: Batch | None) -> Ask:
    async def ask(engine: AsyncEngine, name: str, rival: Rival) -> bool:
        policy = Policy(locks=KeyedLocks())
        creator = GetOrCreator(async_sessionmaker(engine), policy=policy, batch=batch)
        _, created = await creator.get_or_create(Tag, name=name, defaults=rival)
        return created

    return ask


SAVEPOINT: Any = "savepoint"
NATIVE: Any = "native"
ALGORITHMS: dict[str, Ask] = {
    "`get_or_create`": in_session(one(get_or_create), SAVEPOINT),
    "`get_or_create`, native": in_session(one(get_or_create), NATIVE),
    "`update_or_create`": in_session(one(update_or_create), SAVEPOINT),
    "`update_or_create`, native": in_session(one(update_or_create), NATIVE),
    "`get_or_create_many`": in_session(many(get_or_create_many), SAVEPOINT),
    "`get_or_create_many`, native": in_session(many(get_or_create_many), NATIVE),
    "`update_or_create_many`": in_session(many(update_or_create_many), SAVEPOINT),
    "`as_unique`": in_session(unique, SAVEPOINT),
    "`run_in_transaction`": in_session(one(get_or_create), SAVEPOINT, repeats=True),
    "`run_in_transaction`, native": in_session(
        one(get_or_create), NATIVE, repeats=True
    ),
    "`GetOrCreator`": by_creator(None),
    "`GetOrCreator`, batch": by_creator(Batch()),
}
