"""How long a get-or-create takes: ours, by hand, and in the libraries people use.

    python benchmarks/peers.py [--quick] [--case NAME] [--out FOLDER]

All run in one process and against one PostgreSQL, which it starts, on one core; an
engine is shared by those that use SQLAlchemy. Absolute figures are this machine's;
compare within a run. With ``--out``, the figures are saved there as ``benchmark.json``,
with a chart of the whole requests, ``benchmark.svg``.
"""

import asyncio
import gc
import json
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from platform import python_version
from typing import Any

from cases import cases, fill, warm_up
from chart import DRAWN, draw
from claims import CLAIMS, CREATOR, RECIPE
from contenders import CONTENDERS, POOL, Contender, Place
from lab import console, pin, postgres, show, tables
from race import Case, Lane, Lanes, race, why
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

BASE = "asyncpg"
# Columns, and the contenders that the others are compared with there.
COMPARED = {"to asyncpg": BASE, "to recipe": RECIPE, "to creator": CREATOR}
PACKAGES = (
    "SQLAlchemy",
    "asyncpg",
    "advanced-alchemy",
    "tortoise-orm",
    "piccolo",
    "yara-orm",
    "oxyde",
    "Django",
    "psycopg",
)


@asynccontextmanager
async def opened(
    where: str,
) -> AsyncIterator[tuple[dict[str, Contender], dict[str, str]]]:
    """Yield all that can be opened, with their connections; of the others, why not."""
    url = f"postgresql+asyncpg://{where}/postgres"
    # The last one back is the next one out, as in asyncpg's own pool.
    engine = create_async_engine(
        url, pool_size=POOL, max_overflow=0, pool_use_lifo=True
    )
    await fill(engine)
    place = Place(where, async_sessionmaker(engine, expire_on_commit=False))
    contenders: dict[str, Contender] = {}
    reasons: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        for title, path in CONTENDERS.items():
            try:
                contender: Contender = resolve_name(path)(place)
                contenders[title] = await stack.enter_async_context(contender)
            except Exception as error:  # noqa: BLE001 - any reason is one
                reasons[title] = why(error)
        for case in warm_up():
            await race(case, contenders)
        yield contenders, reasons


async def run(where: str, plan: list[Case]) -> dict[str, Lanes]:
    """Run all cases."""
    async with opened(where) as (contenders, reasons):
        # What has been imported is not to be looked through at each collection.
        gc.freeze()
        results = {case.title: await race(case, contenders) for case in plan}
    refused = {title: Lane(reason=reason) for title, reason in reasons.items()}
    return {case: _in_order(lanes | refused) for case, lanes in results.items()}


def _in_order(lanes: Lanes) -> Lanes:
    return {title: lanes[title] for title in CONTENDERS if title in lanes}


def rows(case: Case, lanes: Lanes) -> Iterator[tuple[str, ...]]:
    for title, lane in lanes.items():
        if lane.reason:
            yield title, *"-----", f"cannot run: {lane.reason}"
            continue
        failed = f"{lane.failed:.0f} of {case.size}" if lane.failed else ""
        ratios = [lane.ratio(lanes[other]) for other in COMPARED.values()]
        shown = ("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        yield title, f"{lane.micros:,.0f}", *shown, failed, _remark(title)


def _remark(title: str) -> str:
    remark: str = resolve_name(CONTENDERS[title]).remark
    return remark


def report(plan: list[Case], results: dict[str, Lanes]) -> None:
    screen = console(150)
    screen.print(versions(), "\n")
    heads = "|".join(["contender", "µs per call", *COMPARED, "failed", ""])
    for case in plan:
        lanes = results[case.title]
        show(screen, f"{case.title}: {case.about}", heads, list(rows(case, lanes)))
    screen.print("What is claimed:", style="bold")
    for line in claims(results):
        screen.print(line)


def claims(results: dict[str, Lanes]) -> list[str]:
    held = [claim for claim in CLAIMS if claim.case in results]
    return [claim.line(claim.ratio(results)) for claim in held]


def versions() -> str:
    named = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return f"Python {python_version()}, {named}; {POOL} connections each, one core"


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return "(not installed)"


def save(folder: Path, plan: list[Case], results: dict[str, Lanes]) -> None:
    figures: dict[str, Any] = {
        "versions": versions(),
        "cases": [
            {
                "case": case.title,
                "about": case.about,
                "contenders": {
                    title: _figures(lane, results[case.title])
                    for title, lane in results[case.title].items()
                },
            }
            for case in plan
        ],
        "claims": claims(results),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(figures, indent=1) + "\n")
    if results.keys() >= set(DRAWN):
        (folder / "benchmark.svg").write_text(draw(results, BASE))


def _figures(lane: Lane, lanes: Lanes) -> dict[str, Any]:
    if lane.reason:
        return {"cannot run": lane.reason}
    series = [sample.micros for sample in lane.samples]
    return {
        "microseconds": round(lane.micros, 1),
        "range": [round(pick(series), 1) for pick in (min, max)],
        **{
            name: _rounded(lane.ratio(lanes[other])) for name, other in COMPARED.items()
        },
        "failed": lane.failed,
    }


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer, smaller rounds")
    parser.add_argument("--case", help="only this one")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="save figures here")
    given = parser.parse_args()
    plan = cases(is_quick=given.quick)
    plan = [case for case in plan if given.case in {None, case.title}]
    pin()
    with postgres() as where, tables(where):
        results = asyncio.run(run(where, plan))
    report(plan, results)
    if given.out:
        save(given.out, plan, results)


if __name__ == "__main__":
    main()
