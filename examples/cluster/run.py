"""Ask all nodes of a cluster for the same rows, kill a node, and see what is there.

    python examples/cluster/run.py
    python examples/cluster/run.py --through creator
    python examples/cluster/run.py --through direct --nodes 1

A Galera cluster and HAProxy are started on this machine, in a folder of their own, and
end with this command. It needs mariadbd, Galera 4 and HAProxy (Debian's packages are
mariadb-server-core, galera-4 and haproxy), and asyncmy, aiomysql and rich.

For each node there is a client, a process with some tasks, each of which asks for all
of the keys. In the end, each key has to be there once, on every node that is left, and
all that was acknowledged has to be there, too.
"""

import argparse
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from time import perf_counter
from typing import Any

from check import Rows, create_tables, judge, rows_on
from load import Ack, Client, live
from nodes import Cluster, missing, running
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

DRIVERS = ("asyncmy", "aiomysql")
WAYS = ("haproxy", "one-writer", "creator", "direct")
FAULTS = ("kill", "isolate", "nothing")
# Of three nodes, two are a majority, and go on.
MOST = 3
NOT_INSTALLED = 3


@dataclass
class Answers:
    """What the clients were told."""

    acks: list[Ack] = field(default_factory=list)
    # What made transactions run again, and how often.
    again: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    longest_pause: float = 0.0


def ports_for(way: str, cluster: Cluster, number: int) -> list[int]:
    """Return where a client connects; each begins with another node."""
    ports = [node.port for node in cluster.nodes]
    return {
        "haproxy": [cluster.any_node],
        "one-writer": [cluster.one_writer],
        "creator": [*ports[number:], *ports[:number]],
        "direct": [ports[number]],
    }[way]


@contextmanager
def started(clients: list[Client]) -> Iterator[list[Any]]:
    """Start the clients' processes, and return a pipe to each."""
    context = get_context("spawn")
    processes: list[Any] = []
    pipes: list[Any] = []
    try:
        for client in clients:
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=live, args=(client, theirs)))
            processes[-1].start()
            theirs.close()
            pipes.append(ours)
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


def heard(pipes: list[Any]) -> Iterator[Any]:
    """Yield what the clients say, until the last one has done its work."""
    open_ = [*pipes]
    while open_:
        ready: list[Any] = wait(open_, timeout=60)
        if not ready:
            sys.exit("The clients have done nothing for a minute.")
        for pipe in ready:
            try:
                said = pipe.recv()
            except EOFError:
                sys.exit("A client has failed.")
            yield said
            if isinstance(said, Counter):
                open_.remove(pipe)


def ask(clients: list[Client], fail: Callable[[], None]) -> Answers:
    """Let the clients ask; have a node fail after half of the answers."""
    answers = Answers()
    acks = answers.acks
    total = sum(2 * client.tasks * client.keys for client in clients)
    began = last = 0.0
    # On standard error, so that the table can be redirected without it.
    progress = Progress(console=Console(stderr=True))
    with progress, started(clients) as pipes:
        task = progress.add_task("transactions", total=total)
        waiting = len(pipes)
        for said in heard(pipes):
            now = perf_counter()
            if isinstance(said, Ack):
                answers.longest_pause = max(answers.longest_pause, now - last)
                last = now
                acks.append(said)
                progress.update(task, completed=len(acks))
                if 2 * len(acks) == total:
                    fail()
            elif isinstance(said, Counter):
                answers.again += said
            else:
                waiting -= 1
                if waiting == 0:
                    began = last = now
                    for pipe in pipes:
                        pipe.send("go")
    answers.seconds = last - began
    return answers


def run(folder: Path, args: argparse.Namespace) -> tuple[Answers, dict[str, Rows]]:
    """Return what was acknowledged, and what is on the nodes that are left."""
    with running(folder, args.nodes) as cluster:
        first, *others = cluster.nodes
        create_tables(first.port)
        for node in others:
            rows_on(node.port)  # Every node has the tables then.
        clients = [
            Client(
                ports=ports_for(args.through, cluster, number),
                driver=DRIVERS[number % len(DRIVERS)],
                number=number,
                tasks=args.tasks,
                keys=args.keys,
            )
            for number in range(args.nodes)
        ]
        faults: dict[str, Callable[[], None]]
        faults = {"kill": first.kill, "isolate": first.isolate}
        answers = ask(clients, faults.get(args.fault, lambda: None))
        left = cluster.nodes if args.fault == "nothing" else others
        return answers, {node.name: rows_on(node.port) for node in left}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, choices=range(1, MOST + 1), default=MOST)
    parser.add_argument("--through", choices=WAYS, default=WAYS[0])
    parser.add_argument("--tasks", type=int, default=4, help="of each client")
    parser.add_argument("--keys", type=int, default=50, help="that all ask for")
    parser.add_argument("--fault", choices=FAULTS, help="of the first node of three")
    parser.add_argument("--folder", type=Path, help="a new one, kept; else a temporary")
    args = parser.parse_args()
    can_fail = args.nodes == MOST and args.through != "direct"
    if args.fault is None:
        args.fault = "kill" if can_fail else "nothing"
    if args.fault != "nothing" and not can_fail:
        parser.error("a node may fail where two are left, and clients can go to them")
    return args


def show(args: argparse.Namespace, answers: Answers, left: dict[str, Rows]) -> bool:
    """Print what was seen; return whether it is right."""
    verdict = judge(answers.acks, [*left.values()], args.keys)
    number = len(answers.acks)
    again = answers.again.total()
    title = f"{args.nodes} nodes through {args.through}; fault: {args.fault}"
    table = Table("", Column(justify="right"), title=title, show_header=False)
    for name, value in (
        ("transactions acknowledged", f"{number:,}"),
        ("  a second", f"{number / answers.seconds:,.0f}"),
        ("  longest pause, seconds", f"{answers.longest_pause:.1f}"),
        ("run again", f"{again:,} ({again / number:.1%})"),
        *((f"  {why}", f"{n:,}") for why, n in answers.again.most_common()),
        *(
            (f"tags, places, visits on {name}", str(rows))
            for name, rows in left.items()
        ),
        ("keys created twice", f"{verdict.created_twice:,}"),
        ("acknowledged, and missing", f"{verdict.missing:,}"),
        ("each key once, on every node", "NO" if verdict.uneven else "yes"),
    ):
        table.add_row(name, value)
    Console().print(table)
    return verdict.is_right


def main() -> None:
    args = options()
    if lacking := missing():
        print(f"Not installed: {', '.join(lacking)}", file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Terminated."))
    try:
        if args.folder is None:
            with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
                answers, left = run(Path(folder), args)
        else:
            args.folder.mkdir()
            answers, left = run(args.folder.resolve(), args)
    except KeyboardInterrupt:
        sys.exit("Stopped.")
    sys.exit(not show(args, answers, left))


if __name__ == "__main__":
    main()
