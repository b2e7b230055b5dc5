"""What comes of a race, by each algorithm, on each isolation level of each database.

    python benchmarks/isolation.py [--write] [NAME ...]

A caller's transaction has written and read something else. Its call looks, and finds
nothing; then a rival inserts the row in a transaction of the same level: it commits at
once, or only when the call's INSERT is waiting for it, or it rolls back then. It starts
the servers itself; names choose some of them: sqlite, postgres, mariadb10, mariadb11,
mysql9. --write puts the tables into docs/isolation.md.
"""

import argparse
import asyncio
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import SERVERS, console, running
from racing import ALGORITHMS, Base, Note, Rival, Tag
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import sqlite
from async_goc.exceptions import AsyncGocError

DOCUMENT = Path(__file__).parents[1] / "docs" / "isolation.md"
MARKS = re.compile(r"(?<=<!-- outcomes -->\n).*?(?=<!-- /outcomes -->)", re.DOTALL)
SCENARIOS = ("committed", "in flight", "rolled back")
# Seconds: how long SQLite waits for its only writer, and InnoDB for a lock.
BUSY, WAIT = 0.5, 3


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
        elif self.url.startswith("mysql"):
            setting = f"SET innodb_lock_wait_timeout = {WAIT}"
            how["connect_args"] = {"init_command": setting}
        engine = create_async_engine(self.url, **how)
        if self.is_configured:
            sqlite.configure(engine, busy_timeout=BUSY)
        return engine


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
CONFIGURED = "SQLite, `sqlite.configure`"
TITLES = {
    "sqlite": [CONFIGURED, "SQLite, an engine as SQLAlchemy makes it"],
    "postgres": ["PostgreSQL, asyncpg", "PostgreSQL, psycopg"],
    "mariadb10": ["MariaDB 10.11, asyncmy", "MariaDB 10.11, aiomysql"],
    "mariadb11": ["MariaDB 11.8, asyncmy", "MariaDB 11.8, aiomysql"],
    "mysql9": ["MySQL 9.7, asyncmy", "MySQL 9.7, aiomysql"],
}


def databases(name: str, where: str) -> list[Database]:
    """Return the ways to use a server."""
    if name == "sqlite":
        url = f"sqlite+aiosqlite://{where}"
        return [
            Database(title, f"{url}{number}", [None], is_configured=title == CONFIGURED)
            for number, title in enumerate(TITLES[name])
        ]
    dialect = "postgresql" if name == "postgres" else "mysql"
    drivers = [title.rpartition(" ")[2] for title in TITLES[name]]
    return [
        Database(title, f"{dialect}+{driver}://{where}", LEVELS)
        for title, driver in zip(TITLES[name], drivers, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("names", nargs="*", default=[*SERVERS], metavar="NAME")
    arguments = parser.parse_args()
    found: list[Database] = []
    with ExitStack() as stack:
        for name in arguments.names:
            found += databases(name, stack.enter_context(running(name)))
        text = asyncio.run(tables(found))
    console(200).print(text, markup=False, soft_wrap=True)
    assert "**" not in text
    if arguments.write:
        before = DOCUMENT.read_text()
        DOCUMENT.write_text(MARKS.sub(lambda _: f"\n{text}\n", before))


if __name__ == "__main__":
    main()
