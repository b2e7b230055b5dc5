"""What comes of a race, by each algorithm, on each isolation level of each database.

    python benchmarks/isolation.py [--write] [--database TITLE URL LEVEL,LEVEL ...] ...

A caller's transaction has written and read something else. Its call looks, and finds
nothing; then a rival inserts the row in a transaction of the same level: it commits at
once, or only when the call's INSERT is waiting for it, or it rolls back then. A
PostgreSQL and SQLite are there already; other servers are given by their URLs. --write
puts the tables into docs/isolation.md.
"""

import argparse
import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import console, postgres
from sqlalchemy import String, func, insert, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
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
    sqlite,
    update_or_create,
    update_or_create_many,
)
from async_goc.exceptions import AsyncGocError

DOCUMENT = Path(__file__).parents[1] / "docs" / "isolation.md"
MARKS = re.compile(r"(?<=<!-- outcomes -->\n).*?(?=<!-- /outcomes -->)", re.DOTALL)
SCENARIOS = ("committed", "in flight", "rolled back")
# Seconds: how long a rival stays in flight, and waits where it is not let in; and how
# long SQLite waits for its only writer.
FLIGHT, PATIENCE, BUSY = 0.1, 2.0, 0.5


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


@dataclass(frozen=True)
class Database:
    title: str
    url: str
    # None: the engine's own.
    levels: Sequence[str | None]
    is_configured: bool = False

    def engine(self, level: str | None) -> AsyncEngine:
        how: dict[str, Any] = {} if level is None else {"isolation_level": level}
        if self.url.startswith("sqlite"):
            how["connect_args"] = {"timeout": BUSY}
        engine = create_async_engine(self.url, **how)
        if self.is_configured:
            sqlite.configure(engine, busy_timeout=BUSY)
        return engine


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


async def outcome(engine: AsyncEngine, algorithm: str, scenario: str) -> str:
    """Return in a word what comes of one race."""
    name = f"{algorithm} {scenario}"
    rival = Rival(engine, name, scenario)
    try:
        created = await ALGORITHMS[algorithm](engine, name, rival)
    except AsyncGocError as error:
        return f"`{type(error).__name__}`"
    except DBAPIError as error:
        return code_of(error)
    finally:
        await rival.wait()
    async with AsyncSession(engine) as session:
        rows = await count(session, Tag.name == name)
        notes = await count(session, Note.text == name)
    if rows != 1:
        return "**duplicate**" if rows else "**nothing**"
    if not notes and "Creator" not in algorithm:
        return "**lost**"
    is_theirs = rival.was_let_in and scenario != "rolled back"
    if created is is_theirs:
        return "**wrong**"
    return "found" if is_theirs else "created" if rival.was_let_in else "alone"


async def count(session: AsyncSession, criterion: Any) -> int:
    return await session.scalar(select(func.count()).where(criterion)) or 0


def code_of(error: DBAPIError) -> str:
    """Return what the database calls its error."""
    cause: Any = error.orig
    number = cause.args[0] if cause.args else None
    if isinstance(number, int):
        return str(number)  # MariaDB's and MySQL's SQLSTATEs stand for many things.
    return str(getattr(cause, "sqlite_errorname", None) or cause.sqlstate)


async def outcomes(
    database: Database, algorithms: Iterable[str] = ALGORITHMS
) -> dict[tuple[str, str], str]:
    """Return the outcomes by algorithm and level, one for each scenario."""
    found: dict[tuple[str, str], str] = {}
    for level in database.levels:
        engine = database.engine(level)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        for algorithm in algorithms:
            words = [await outcome(engine, algorithm, each) for each in SCENARIOS]
            found[algorithm, level or "its own"] = " · ".join(words)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
    return found


def table(title: str, found: dict[tuple[str, str], str]) -> str:
    """Return a table in Markdown."""
    levels = list(dict.fromkeys(level for _, level in found))
    heads = levels if len(levels) > 1 else ["outcome"]
    lines = [f"| {title} | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for algorithm in dict.fromkeys(algorithm for algorithm, _ in found):
        cells = [found[algorithm, level] for level in levels]
        lines.append(f"| {algorithm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


async def tables(databases: Iterable[Database]) -> str:
    """Return one table for all databases whose outcomes are the same."""
    alike: dict[str, list[str]] = {}
    for database in databases:
        body = table("@", await outcomes(database))
        alike.setdefault(body, []).append(database.title)
    return "\n".join(
        body.replace("@", "; ".join(titles), 1) for body, titles in alike.items()
    )


LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


def databases(where: str, folder: str) -> list[Database]:
    """Return those that are there without being given."""
    path = f"sqlite+aiosqlite:///{folder}"
    return [
        Database(
            "PostgreSQL, asyncpg", f"postgresql+asyncpg://{where}/postgres", LEVELS
        ),
        Database(
            "PostgreSQL, psycopg", f"postgresql+psycopg://{where}/postgres", LEVELS
        ),
        Database(
            "SQLite, `sqlite.configure`",
            f"{path}/configured.db",
            [None],
            is_configured=True,
        ),
        Database(
            "SQLite, an engine as SQLAlchemy makes it", f"{path}/plain.db", [None]
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    names = ("TITLE", "URL", "LEVELS")
    how: Any = {"nargs": 3, "action": "append", "default": [], "metavar": names}
    parser.add_argument("--database", **how)
    arguments = parser.parse_args()
    others = [
        Database(t, url, levels.split(",")) for t, url, levels in arguments.database
    ]
    with tempfile.TemporaryDirectory() as folder, postgres() as where:
        text = asyncio.run(tables([*databases(where, folder), *others]))
    console(200).print(text, markup=False, soft_wrap=True)
    assert "**" not in text
    if arguments.write:
        before = DOCUMENT.read_text()
        DOCUMENT.write_text(MARKS.sub(lambda _: f"\n{text}\n", before))


if __name__ == "__main__":
    main()
