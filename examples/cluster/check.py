"""Compare what run.py's clients were told with what is on each node."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from load import Ack, Base, Client, Place, Tag, Visit, open_engine
from sqlalchemy import select, text


@dataclass(frozen=True)
class Rows:
    """What is on a node."""

    tags: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    visits: set[tuple[int, str]] = field(default_factory=set)

    def __str__(self) -> str:
        numbers = len(self.tags), len(self.places), len(self.visits)
        return "{:,} + {:,} + {:,}".format(*numbers)

    def has(self, ack: Ack) -> bool:
        """Whether that is here."""
        if ack.table == Place.__tablename__:
            return self.places.get(ack.name) == ack.id
        is_visited = (ack.id, ack.worker) in self.visits
        return self.tags.get(ack.name) == ack.id and is_visited


@dataclass(frozen=True)
class Verdict:
    """What was acknowledged, and what became of it."""

    # Keys that a node lacks, or has otherwise than another one does.
    uneven: int
    # What was acknowledged, and is not there, over all nodes.
    missing: int
    # Keys whose row two calls say that they have created.
    created_twice: int

    @property
    def is_right(self) -> bool:
        return self == Verdict(0, 0, 0)


def create_tables(port: int) -> None:
    """Create the tables, on all nodes."""

    async def create() -> None:
        engine = open_engine(Client(ports=[port]))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    asyncio.run(create())


def rows_on(port: int) -> Rows:
    """Return what is on the node, with all that any node has committed before."""

    async def read() -> Rows:
        engine = open_engine(Client(ports=[port]))
        async with engine.connect() as connection:
            # Wait for what is on its way from the others.
            await connection.execute(text("SET SESSION wsrep_sync_wait = 1"))
            tags, places, visits = [
                [(one, other) for one, other in await connection.execute(query)]
                for query in (
                    select(Tag.name, Tag.id),
                    select(Place.name, Place.id),
                    select(Visit.tag_id, Visit.worker),
                )
            ]
        await engine.dispose()
        return Rows(dict(tags), dict(places), set(visits))

    return asyncio.run(read())


def judge(acks: Sequence[Ack], nodes: Sequence[Rows], keys: int) -> Verdict:
    """Say whether each key is there once, and all that was acknowledged."""
    one, *others = nodes
    uneven = sum(node != one for node in others)
    uneven += sum(len(table) != keys for table in (one.tags, one.places))
    created = Counter((ack.table, ack.name) for ack in acks if ack.is_created)
    return Verdict(
        uneven=uneven,
        missing=sum(not node.has(ack) for node in nodes for ack in acks),
        created_twice=sum(number > 1 for number in created.values()),
    )
