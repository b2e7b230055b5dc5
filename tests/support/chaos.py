"""Transactions that end in every way there is, at random, but reproducibly."""

import asyncio
import gc
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import anyio
from models import Tag
from sqlalchemy import NullPool, delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from steps import Steps

from async_goc import Policy, get_or_create

# {how a transaction ends: how often}
FATES = {
    "commit": 10,
    "rollback": 2,
    "raise": 2,
    "cancel": 3,
    "cancel thrice": 2,
    "move_on_after": 2,
    "fail_after": 1,
    "timeout": 2,
    "drop": 1,
    "kill": 1,
}


class CallerError(Exception):
    """What the caller raises."""


@dataclass
class Record:
    """What a transaction has got, as far as it has not rolled it back.

    Attributes:
        fate: How it is to end.
        got: (name, id, created) for each call.
        is_unknown: Whether its COMMIT has begun.
        is_committed: Whether it has come back.
        error: What the caller saw, and whether that is legal. (Not the error itself:
            it has a traceback, which has the session.)
    """

    fate: str
    got: list[tuple[str, int, bool]] = field(default_factory=list)
    is_unknown: bool = False
    is_committed: bool = False
    error: tuple[str, bool] | None = None

    def is_legal(self, error: BaseException) -> bool:
        """Whether the error is one that was brought about."""
        match error:
            case asyncio.CancelledError():
                return self.fate.startswith("cancel")
            case TimeoutError():
                return self.fate in {"fail_after", "timeout"}
            case CallerError():
                return self.fate == "raise"
            case DBAPIError():
                state = getattr(error.orig, "sqlstate", None)
                was_killed = state == "57P01" or error.connection_invalidated
                return state == "40P01" or (self.fate == "kill" and was_killed)
        return False


class Chaos:
    """Transactions that ask for *names*.

    Args:
        engine: Where.
        policies: Each call takes one of them.
        names: The rows.
        fates: How the transactions end.
        is_ordered: Whether each asks in the order of the names, and deletes nothing, so
            that none waits for another one in a circle.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        policies: Sequence[Policy],
        names: Sequence[str],
        *,
        fates: Sequence[str] = tuple(FATES),
        is_ordered: bool = False,
    ) -> None:
        self.engine = engine
        self.sessions = async_sessionmaker(engine)
        self.policies = policies
        self.names = names
        self.fates = fates
        self.is_ordered = is_ordered
        self.records: list[Record] = []

    async def run(self, seed: int, workers: int, transactions: int) -> Counter[str]:
        """Let each of the *workers* run so many transactions.

        Returns:
            How many were committed, and how many saw which error.
        """
        randoms = (Random(f"{seed} {number}") for number in range(workers))  # noqa: S311
        async with asyncio.TaskGroup() as group:
            for random in randoms:
                group.create_task(self._work(random, transactions))
        seen = Counter(r.error[0].partition("(")[0] for r in self.records if r.error)
        return seen + Counter(commit=sum(r.is_committed for r in self.records))

    async def _work(self, random: Random, transactions: int) -> None:
        weights = [FATES[fate] for fate in self.fates]
        for _ in range(transactions):
            record = Record(random.choices(self.fates, weights)[0])
            self.records.append(record)
            task = asyncio.create_task(self._live(record, random))
            try:
                await task
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                record.error = repr(error), record.is_legal(error)
            del task
            if record.fate not in {"commit", "raise", "rollback"}:
                # Its `close()` may have been cancelled, too: the session still has its
                # connection, and locks in the database, until it is collected.
                await asyncio.sleep(0)  # The loop still has the task, and its error.
                gc.collect()

    async def _live(self, record: Record, random: Random) -> None:
        task = asyncio.current_task()
        assert task is not None
        how = random.choice([self._in_block, self._by_hand])
        work = how(record, random)
        limit = random.uniform(0, 0.05)
        match record.fate:
            case "cancel" | "cancel thrice":
                k = random.randint(1, 30)
                places = [k] if record.fate == "cancel" else [k, k + 1, k + 2]
                is_late = random.choice([True, False])
                await Steps(work, task.cancel, *places, is_late=is_late)
            case "move_on_after":
                with anyio.move_on_after(limit):
                    await work
            case "fail_after":
                with anyio.fail_after(limit):
                    await work
            case "timeout":
                async with asyncio.timeout(limit):
                    await work
            case "drop":
                work.close()
                await self._ask(self.sessions(), record, random)
                record.got.clear()
            case _:
                await work

    async def _in_block(self, record: Record, random: Random) -> None:
        async with self.sessions() as session:
            await self._ask(session, record, random)
            await self._end(session, record, random)

    async def _by_hand(self, record: Record, random: Random) -> None:
        session = self.sessions()
        try:
            await self._ask(session, record, random)
            await self._end(session, record, random)
        finally:
            await session.close()

    async def _ask(self, session: AsyncSession, record: Record, random: Random) -> None:
        names = random.choices(self.names, k=random.randint(1, 3))
        for name in sorted(names) if self.is_ordered else names:
            if random.random() < 0.7:
                record.got += [await self._call(session, name, random)]
                continue
            savepoint = await session.begin_nested()
            got = await self._call(session, name, random)
            if random.random() < 0.5:
                await savepoint.rollback()
            else:
                await savepoint.commit()
                record.got.append(got)

    async def _call(
        self, session: AsyncSession, name: str, random: Random
    ) -> tuple[str, int, bool]:
        policy = random.choice(self.policies)
        tag, created = await get_or_create(session, Tag, name=name, policy=policy)
        got = (name, tag.id, created)
        if not self.is_ordered and random.random() < 0.15:
            await session.execute(delete(Tag).where(Tag.id == tag.id))
        return got

    async def _end(self, session: AsyncSession, record: Record, random: Random) -> None:
        match record.fate:
            case "raise":
                raise CallerError
            case "rollback":
                await session.rollback()
                return
            case "kill":
                await self._kill(session)
                if random.random() < 0.5:
                    await self._ask(session, record, random)
        record.is_unknown = True
        await session.commit()
        record.is_committed = True

    async def _kill(self, session: AsyncSession) -> None:
        pid = await session.scalar(select(func.pg_backend_pid()))
        killer = create_async_engine(self.engine.url, poolclass=NullPool)
        async with killer.connect() as connection:
            await connection.execute(select(func.pg_terminate_backend(pid)))

    async def check(self) -> None:
        """Check that each row was created once, and that nothing illegal was seen."""
        errors = [(r.fate, *r.error) for r in self.records if r.error]
        illegal = [(fate, text) for fate, text, is_legal in errors if not is_legal]
        assert illegal == [], illegal[:3]
        creations: Counter[tuple[str, int]] = Counter()
        rows: dict[int, set[str]] = defaultdict(set)
        for record in self.records:
            for name, id_, created in record.got:
                creations[name, id_] += record.is_unknown and created
                if record.is_committed:
                    rows[id_].add(name)
        async with AsyncSession(self.engine) as session:
            left = (await session.execute(select(Tag.name, Tag.id))).all()
        assert len({name for name, _ in left}) == len(left)
        for name, id_ in left:
            rows[id_].add(name)
        for id_, (name, *others) in rows.items():
            created = creations[name, id_]
            assert (created, others) == (1, []), (name, id_, created, others)
        assert max(creations.values(), default=0) <= 1, creations.most_common(3)
