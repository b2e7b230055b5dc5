"""What the registry of keyed locks is worth, and what it costs.

    python benchmarks/registry.py

Everything runs against a PostgreSQL of its own, side by side with no lock at all and
with a plain ``dict[key, asyncio.Lock]``. Absolute figures are this machine's; compare
within a run. Nothing fails here: benchmarks report, tests assert.
"""

import asyncio
import logging
from platform import python_version

import cost
import failures
import load
from delay import delayed
from lab import postgres, show, tables
from rich.console import Console
from sqlalchemy import __version__


def main() -> None:
    console = Console(width=None if Console().is_terminal else 130)
    # Waits that time out, and connections that are cut off, are what we provoke.
    for name in ("async_goc", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with postgres() as near, tables(near), delayed(near) as far:
        trips = [asyncio.run(load.round_trip(where)) for where in (near, far)]
        console.print(
            f"Python {python_version()}, SQLAlchemy {__version__}; a round trip takes "
            f"{trips[0]:.2f} ms, through the proxy {trips[1]:.2f} ms\n"
        )
        report_load(console, far)
        report_failures(console, near, far)
        report_cost(console, near)


def report_load(console: Console, far: str) -> None:
    rows = [row for pool in (20, 100) for row in asyncio.run(load.hits(far, pool))]
    show(
        console,
        f"{load.HITS} requests at once for one existing row, 5 ms away (target: 1.15)",
        "connections|way|ms, median (range)|to no lock|within a round",
        rows,
    )
    show(
        console,
        f"{load.BURST} requests at once for one new row, 10 connections, 5 ms away; "
        "each transaction stays open for 50 ms\n"
        "and an unrelated query through the same pool meanwhile, ms",
        "way|INSERTs|violations|all, ms|query: first|median|worst",
        asyncio.run(load.collapse(far)),
    )


def report_failures(console: Console, near: str, far: str) -> None:
    show(
        console,
        f"{failures.REQUESTS} requests for 60 new rows, 5 ms away, most of them cut "
        "off; `finally: await session.close()` (target: 0 held)",
        "way|cut off|failed|held at once|held later|registry",
        asyncio.run(failures.cancelled(far)),
    )
    show(
        console,
        f"Does it end? (bound: {failures.BOUND:.0f} s)",
        "case|way|ends after|how|registry",
        asyncio.run(failures.cycles(near)),
    )
    show(
        console,
        "Contended, on one event loop after the other",
        "way|first loop|second loop|registry",
        failures.loops(near),
    )


def report_cost(console: Console, near: str) -> None:
    show(
        console,
        "What the registry adds to a call or a request without rivals",
        "what|without, us|with, us|ratio|paired difference, us",
        asyncio.run(cost.calls(near)),
    )
    show(
        console,
        "The registry's own work for one turn, key included (target: 3 %)",
        "turn|in a loop, us|of a hit from there|of the call itself|"
        "after a call, us|of a hit from there|of the call itself",
        asyncio.run(cost.turns(near)),
    )


if __name__ == "__main__":
    main()
