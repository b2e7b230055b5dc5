"""Make real servers fail, in every way that an error's code tells apart."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    URL,
    AsyncAdaptedQueuePool,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)

METADATA = MetaData()
# Five rows, with the numbers from 1 to 5.
THING = Table(
    "failing_thing",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, CheckConstraint("size < 99"), nullable=False),
    Column("name", String(9), unique=True),
    Column("thing", ForeignKey("failing_thing.id")),
)
OTHER = Table("failing_other", METADATA, Column("id", Integer, primary_key=True))
READ = "SELECT size FROM failing_thing WHERE id = 1"
WRITE = "UPDATE failing_thing SET size = size + 1 WHERE id = {}"


@dataclass
class Place:
    """Two connections to a server, with a transaction each; and more of them."""

    backend: str
    engine: AsyncEngine
    one: AsyncConnection
    two: AsyncConnection


Provoke = Callable[[Place], Coroutine[Any, Any, object]]


def fill(connection: Connection) -> None:
    METADATA.drop_all(connection)
    METADATA.create_all(connection)
    rows = [{"id": number, "size": 1, "name": f"n{number}"} for number in range(1, 6)]
    connection.execute(THING.insert(), rows)
    connection.execute(OTHER.insert(), {"id": 1})


@asynccontextmanager
async def place(backend: str, url: str | URL) -> AsyncIterator[Place]:
    """Two connections, of which SQLite's do not wait for each other."""
    options: dict[str, Any] = {"poolclass": AsyncAdaptedQueuePool}
    if backend.startswith("sqlite"):
        options["connect_args"] = {"timeout": 0}
    engine = create_async_engine(url, **options)
    try:
        async with engine.connect() as one, engine.connect() as two:
            yield Place(backend, engine, one, two)
    finally:
        await engine.dispose()


def sending(statements: str) -> Provoke:
    """Send each of them, one to a line."""

    async def provoke(here: Place) -> None:
        if here.backend.startswith("sqlite"):
            await here.one.exec_driver_sql("PRAGMA foreign_keys = ON")
            await here.one.exec_driver_sql("BEGIN")  # What is created goes, too.
        for each in statements.split(";\n"):
            if each == "COMMIT":
                await here.one.commit()
            else:
                await here.one.exec_driver_sql(each)

    return provoke


def at(level: str, provoke: Provoke) -> Provoke:
    """The same at another isolation level."""

    async def provoke_at(here: Place) -> None:
        engine = here.engine.execution_options(isolation_level=level)
        async with engine.connect() as one, engine.connect() as two:
            await provoke(Place(here.backend, engine, one, two))

    return provoke_at


async def of_a_trigger(here: Place) -> None:
    """A conflict in another table than the statement's."""
    insert = "INSERT INTO failing_other SELECT 1 WHERE NEW.id = 77;"
    trigger = "CREATE TRIGGER t AFTER INSERT ON failing_thing FOR EACH ROW"
    how = {
        "sqlite": f"{trigger} BEGIN {insert} END",
        "postgresql": "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
        f"'BEGIN {insert} RETURN NEW; END';\n{trigger} EXECUTE FUNCTION f()",
        "mysql": f"{trigger} {insert}",
    }
    create = how[here.backend.partition("+")[0]]
    row = "INSERT INTO failing_thing (id, size) VALUES (77, 1)"
    await sending(f"{create};\n{row}")(here)


async def many_rows(here: Place) -> None:
    """The driver's executemany(): its last row conflicts."""
    rows = [{"id": number, "size": 1} for number in (7, 8, 1)]
    await here.one.execute(THING.insert(), rows)


async def stale_write(here: Place) -> None:
    """Change what another one has changed since this one's first read."""
    await here.one.exec_driver_sql(READ)
    await here.two.exec_driver_sql(WRITE.format(1))
    await here.two.commit()
    await here.one.exec_driver_sql(WRITE.format(1))


async def stale_lock(here: Place) -> None:
    """The same for MariaDB, where a session may choose to be told of it."""
    await here.one.exec_driver_sql("SET innodb_snapshot_isolation = ON")
    try:
        await stale_write(here)
    finally:
        await here.one.exec_driver_sql("SET innodb_snapshot_isolation = DEFAULT")


async def write_skew(here: Place) -> None:
    """Each reads what the other one writes; the last COMMIT is refused."""
    for number, each in enumerate((here.one, here.two), 1):
        await each.exec_driver_sql("SELECT sum(size) FROM failing_thing")
        await each.exec_driver_sql(WRITE.format(number))
    await here.one.commit()
    await here.two.commit()


async def deadlock(here: Place) -> None:
    """Each waits for the other one."""
    # Of two, InnoDB rolls back the one that has written less.
    for number in (2, 3, 4, 5):
        await here.two.exec_driver_sql(WRITE.format(number))
    await here.one.exec_driver_sql(WRITE.format(1))
    calls = (
        here.one.exec_driver_sql(WRITE.format(2)),
        here.two.exec_driver_sql(WRITE.format(1)),
    )
    errors = await asyncio.gather(*calls, return_exceptions=True)
    await here.two.rollback()
    raise next(error for error in errors if isinstance(error, BaseException))


def in_savepoint(provoke: Provoke) -> Provoke:
    """The same in a SAVEPOINT of a session's."""

    async def provoke_in_it(here: Place) -> None:
        async with AsyncSession(here.one) as session, session.begin_nested():
            await session.connection()  # Only now is there a SAVEPOINT.
            await provoke(here)

    return provoke_in_it


async def after_an_error(here: Place) -> None:
    """PostgreSQL answers nothing more until a ROLLBACK."""
    with suppress(DBAPIError):
        await here.one.exec_driver_sql("SELECT 1 / 0")
    await here.one.exec_driver_sql("SELECT 1")


def while_locked(statements: str) -> Provoke:
    """Send them while another one holds the first row."""
    send = sending(statements)

    async def provoke(here: Place) -> None:
        await here.two.exec_driver_sql(WRITE.format(1))
        await send(here)

    return provoke


async def busy(here: Place) -> None:
    """SQLite: another one writes."""
    await here.two.exec_driver_sql("BEGIN IMMEDIATE")
    await here.one.exec_driver_sql(WRITE.format(1))


async def busy_snapshot(here: Place) -> None:
    """SQLite: another one has written since this transaction began to read."""
    await here.one.exec_driver_sql("PRAGMA journal_mode = WAL")
    await here.one.exec_driver_sql("BEGIN")
    await stale_write(here)


async def shared_cache(here: Place) -> None:
    """SQLite: another one writes to a table of a database in memory."""
    url = "sqlite+aiosqlite:///file:failing?mode=memory&cache=shared&uri=true"
    async with place(here.backend, url) as memory:
        await memory.two.run_sync(fill)
        await memory.one.exec_driver_sql(READ)
