"""The load of run.py: tables, an engine that leaves a lost node, and the clients."""

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

from sqlalchemy import URL, ForeignKey, String, UniqueConstraint, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_goc import Event, GetOrCreator, Policy, get_or_create, run_in_transaction
from async_goc.exceptions import OutcomeUnknownError

# A cluster may need some seconds to find out that a node is lost.
ATTEMPTS = 20
NOT_READY = 1047
Sessions = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase): ...


class Place(Base):
    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class Visit(Base):
    """That a worker has seen a tag; written together with the tag, if that is new."""

    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    tag_id: Mapped[int] = mapped_column(ForeignKey(Tag.id))
    worker: Mapped[str] = mapped_column(String(50))
    __table_args__ = (UniqueConstraint("tag_id", "worker"),)


class Ack(NamedTuple):
    """What a worker was told to be committed."""

    table: str
    name: str
    worker: str
    id: int
    is_created: bool


@dataclass(frozen=True)
class Client:
    """A process of the application: where it connects, and what it does."""

    # In the order in which they are tried.
    ports: Sequence[int]
    driver: str = "asyncmy"
    number: int = 0
    tasks: int = 1
    keys: int = 0

    @property
    def url(self) -> URL:
        """The database, at the first of the ports."""
        query = "charset=utf8mb4&connect_timeout=3"
        url = make_url(f"mysql+{self.driver}://root@127.0.0.1/example?{query}")
        return url.set(port=self.ports[0])


def open_engine(client: Client) -> AsyncEngine:
    """Return an engine for one address, or for the first node that is ready."""
    several = {"async_creator": ready_node(client.url, client.ports)}
    engine = create_async_engine(
        client.url,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=client.tasks,
        **(several if len(client.ports) > 1 else {}),
    )

    @event.listens_for(engine.sync_engine, "handle_error")
    def leave(context: Any) -> None:
        # The node answers, but has lost the others: nothing can be done there.
        if context.original_exception.args[:1] == (NOT_READY,):
            context.is_disconnect = True

    return engine


def ready_node(url: URL, ports: Sequence[int]) -> Callable[[], Awaitable[Any]]:
    """Return a function that connects to the first node that takes statements."""
    dialect = url.get_dialect()()
    driver, errors = import_module(dialect.driver), dialect.import_dbapi()

    async def connect_if_ready(port: int) -> Any:
        _, options = dialect.create_connect_args(url.set(port=port))
        connection = await driver.connect(**options)
        async with connection.cursor() as cursor:
            await cursor.execute("SHOW STATUS LIKE 'wsrep_ready'")
            if await cursor.fetchone() == ("wsrep_ready", "ON"):
                return connection
        connection.close()
        return None

    async def connect() -> Any:
        for port in ports:
            with suppress(OSError, errors.Error):
                async with asyncio.timeout(3):
                    connection = await connect_if_ready(port)
                if connection is not None:
                    return connection
        raise errors.OperationalError(2003, "no node is ready")

    return connect


async def visit(session: AsyncSession, name: str, worker: str) -> tuple[int, bool]:
    """The work of a transaction, which does no harm if it is done twice."""
    tag, created = await get_or_create(session, Tag, name=name)
    await get_or_create(session, Visit, tag_id=tag.id, worker=worker)
    return tag.id, created


def label(error: BaseException | None) -> str:
    """Say in a few words what made a transaction fail."""
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    where = error.statement.split()[0] if error.statement else "COMMIT or connect"
    return f"{error.orig.args[0]} at {where}" if error.orig else where


class Worker:
    """One of a client's tasks."""

    def __init__(self, name: str, sessions: Sessions, creator: GetOrCreator) -> None:
        self._name = name
        self._sessions = sessions
        self._creator = creator

    async def ask(self, keys: int) -> AsyncIterator[Ack]:
        """Ask for each key, in the order in which all the others do."""
        for key in range(keys):
            yield await self._see(f"tag {key}")
            yield await self._keep(f"place {key}")

    async def _see(self, name: str) -> Ack:
        found = await run_in_transaction(
            self._sessions,
            visit,
            name,
            self._name,
            attempts=ATTEMPTS,
            is_idempotent=True,
        )
        return Ack(Tag.__tablename__, name, self._name, *found)

    async def _keep(self, name: str) -> Ack:
        while True:
            try:
                place, created = await self._creator.get_or_create(Place, name=name)
            except OutcomeUnknownError:
                continue  # It may be there. Who has created it is not to be known.
            return Ack(Place.__tablename__, name, self._name, place.id, created)


async def work(client: Client, pipe: Any) -> None:
    """Do all that a client has to do; send each answer through the pipe."""
    again = Counter[str]()

    def observe(seen: Event) -> None:
        if seen.verb == "run_in_transaction":
            again[label(seen.error)] += 1

    async def send(worker: Worker) -> None:
        async for ack in worker.ask(client.keys):
            pipe.send(ack)

    engine = open_engine(client)
    policy = Policy(observer=observe)
    sessions = async_sessionmaker(engine, info={"async_goc.policy": policy})
    creator = GetOrCreator(sessions, attempts=ATTEMPTS)
    names = [f"{client.number}.{task}" for task in range(client.tasks)]
    async with engine.connect():
        pipe.send("ready")
        pipe.recv()
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(send(Worker(name, sessions, creator)))
    await engine.dispose()
    pipe.send(again)


def live(client: Client, pipe: Any) -> None:
    """Be one of the clients, as long as the first process listens."""
    # Ctrl-C is for that one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A lost node is said to be lost by the pool, for each connection; and by calls that
    # wait longer than usual.
    for name in ("sqlalchemy.pool", "async_goc"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        asyncio.run(work(client, pipe))
    except* (BrokenPipeError, EOFError):
        pass
