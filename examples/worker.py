"""Drain a queue of events, which is a table, and count the names that they mention.

    python examples/worker.py
    python examples/worker.py --events 20000 --workers 16
    python examples/worker.py --url postgresql+asyncpg://me@localhost/db --processes 4

Nobody has listed the users, places and tags beforehand: any worker may be the first to
meet one. A GetOrCreator in each process commits them at once, since a name is right
whatever becomes of the event. A count is right only if its event has left the queue, so
the two are one transaction. Kill any process at any time (``kill -9``), and run this
again: what is left is done first, nothing is lost, and nothing is counted twice. At the
end the stream of events is made once more, and compared with the counts.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import wait
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from worker_events import MODELS, Event, Mention, check, fill, mentions, open_engine

from async_goc import Batch, GetOrCreator, Outcome, Policy, Stats

# The mentions of each event, by its id.
Events = dict[int, set[Mention]]


async def take(session: AsyncSession, worker: int, workers: int) -> Events:
    """Return some events; none if the queue is empty, and will stay so."""
    query = select(Event.id, Event.body).order_by(Event.id).limit(5)

    async def fetch(query: Any) -> Events:
        return {id_: mentions(body) for id_, body in await session.execute(query)}

    if session.get_bind().dialect.name == "sqlite":
        # No row can be locked, so each worker has a part of the queue. And there is one
        # writer: the creator would wait for this transaction, which waits for it.
        events = await fetch(query.where(Event.id % workers == worker))
        await session.rollback()
        return events
    free = await fetch(query.with_for_update(skip_locked=True))
    # Others hold the rest. Wait for them: if one is killed, its events are for us.
    return free or await fetch(query.with_for_update())


async def name_ids(creator: GetOrCreator, events: Events) -> dict[Mention, int]:
    """Return the ids of all names; those that are new are committed by now."""
    asked = list(set().union(*events.values()))
    calls = [creator.get_or_create(model, name=name) for model, name in asked]
    rows = await asyncio.gather(*calls)
    return {mention: row.id for mention, (row, _) in zip(asked, rows, strict=True)}


async def count(session: AsyncSession, events: Events, ids: dict[Mention, int]) -> int:
    """Take the events off the queue, and count their mentions, or do neither."""
    # Where rows cannot be locked, another process may have taken some of them.
    query = delete(Event).where(Event.id.in_(events)).returning(Event.id)
    ours = [*await session.scalars(query)]
    counts = Counter(mention for id_ in ours for mention in events[id_])
    connection = await session.connection()
    for model in MODELS:
        change = update(model).where(model.id == bindparam("key"))
        change = change.values(events=model.events + bindparam("more"))
        # Sorted: transactions that change rows in different orders may deadlock.
        found = sorted((ids[m], n) for m, n in counts.items() if m[0] is model)
        if found:
            more = [{"key": key, "more": n} for key, n in found]
            await connection.execute(change, more)
    await session.commit()
    return len(ours)


async def drain(url: str, workers: int, pipe: Any) -> None:
    """Work until the queue is empty; say through the pipe what was done so far."""
    stats, done = Stats(), Counter[str]()
    policy = Policy(observer=stats)

    async def work(worker: int) -> None:
        async with sessions() as session:
            while events := await take(session, worker, workers):
                # Names first, while this transaction has changed nothing: it ends after
                # the creator's, so the creator must have no reason to wait for it.
                ids = await name_ids(creator, events)
                number = await count(session, events, ids)
                done["events"] += number
                done.update({o: stats[o] - done[o] for o in Outcome})
                pipe.send_bytes(json.dumps(done).encode())

    # A worker keeps its connection while it waits for the creator. If the workers had
    # all of the pool's, the creator would wait for one of them, and they for it.
    async with open_engine(url, workers + 1) as engine:
        sessions = async_sessionmaker(engine)
        async with (
            GetOrCreator(sessions, policy=policy, batch=Batch()) as creator,
            asyncio.TaskGroup() as group,
        ):
            for worker in range(workers):
                group.create_task(work(worker))


def live(url: str, workers: int, pipe: Any) -> None:
    """Be one of the processes, as long as the first one listens."""
    try:
        asyncio.run(drain(url, workers, pipe))
    except* (BrokenPipeError, KeyboardInterrupt):
        pass


def run(url: str, workers: int, processes: int, queued: int) -> Counter[str]:
    """Start the processes, show how far they are, and return what they have done."""
    context = get_context("spawn")
    done: dict[Any, Counter[str]] = {}
    for _ in range(processes):
        ours, theirs = context.Pipe(duplex=False)
        context.Process(target=live, args=(url, workers, theirs)).start()
        theirs.close()
        done[ours] = Counter()
    pipes, total = [*done], Counter[str]()
    # On standard error, so that the table can be redirected without it.
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("events", total=queued)
        while pipes:
            ready: list[Any] = wait(pipes)
            for pipe in ready:
                try:
                    done[pipe] = Counter(json.loads(pipe.recv_bytes()))
                except (EOFError, OSError):  # It has ended, or was killed.
                    pipes.remove(pipe)
            total = sum(done.values(), Counter())
            progress.update(task, completed=total["events"])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="sqlite+aiosqlite:///worker.db")
    parser.add_argument("--events", type=int, default=2000, help="for an empty queue")
    parser.add_argument("--workers", type=int, default=8, help="in each process")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    queued = asyncio.run(fill(args.url, args.events))
    started = perf_counter()
    try:
        done = run(args.url, args.workers, args.processes, queued)
    except KeyboardInterrupt:
        sys.exit("Stopped; run it again for what is left.")
    seconds = perf_counter() - started
    left, names, is_right = asyncio.run(check(args.url))
    events = done.pop("events", 0)
    table = Table("", Column(justify="right"), title="What was done", show_header=False)
    for title, number in (
        ("events", events),
        ("events a second", round(events / seconds)),
        ("rows created", done["created"]),
        ("calls", done.total()),
        *((f"  {outcome}", done[outcome]) for outcome in Outcome if done[outcome]),
        ("events left in the queue", left),
        ("names in the database", names),
    ):
        table.add_row(title, f"{number:,}")
    table.add_row("each event counted once", "yes" if is_right else "NO")
    Console().print(table)
    sys.exit(left > 0 or not is_right)


if __name__ == "__main__":
    main()
