"""Count the instructions of a call: ours, and what people write by hand.

    python benchmarks/instructions.py [--case NAME ...]
    python benchmarks/instructions.py --ours --python OLD --python NEW
    python benchmarks/instructions.py --case bulk --wall 40 --python OLD --python NEW

Seconds depend on the machine and its neighbours; instructions repeat within 1 %. They
are counted by valgrind's tool callgrind, in the client alone, and only while the calls
run: not the imports, nor the calls that let the interpreter specialise its code first.

Each way of each case has processes and PostgreSQL servers of its own, so that no
figure depends on what else is counted. Two things move it by 1 %, in either direction,
in code that has not changed: how strings hash, and where objects lie in memory, by
which the interpreter caches attributes. So each figure is the mean over some seeds, the
same in each run, each with other hashes and other places; more ``--seeds`` tell apart
what is closer than that.

It fails if a claim does not hold, as far as its case has been counted in both ways.

With ``--python``, those interpreters make the calls, each with an installation of
async_goc, to be compared. With ``--wall``, milliseconds are taken instead, and the
installations take turns.
"""

import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import perf_counter

from calls import CASES, DONE, READY
from claims import COUNTED, NO, YES
from lab import console, pin, postgres, show, tables

VALGRIND = ("valgrind", "-q", "--tool=callgrind", "--instr-atstart=no")
CONTROL = ("callgrind_control",)
# An order arrives while the program waits, by way of the debugger's system call. Where
# that is forbidden, it never does.
PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Task:
    """One way of one case, on one of the interpreters."""

    python: int
    case: str
    way: str

    @property
    def calls(self) -> int:
        return CASES[self.case].calls


@dataclass(frozen=True, slots=True)
class Figure:
    """Thousands of instructions per call."""

    amount: float
    versions: str


@contextmanager
def started(
    task: Task, python: str, *tool: str, seed: int = 0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a process that is about to make calls, and what it runs on."""
    with postgres() as where, tables(where):
        shifted, script = map(Path(__file__).with_name, ("shifted.py", "calls.py"))
        with subprocess.Popen(
            [*tool, python, shifted, str(seed), script, where, task.case, task.way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ) as process:
            try:
                yield process, _expect(process, READY)
            finally:
                process.kill()


def _expect(process: subprocess.Popen[str], word: str) -> str:
    """Wait for the word, and return what comes after it."""
    assert process.stdout is not None
    said, _, rest = process.stdout.readline().strip().partition(" ")
    if said != word:
        raise ChildProcessError(process.args)
    return rest


def _call(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    _expect(process, DONE)


def counted(task: Task, python: str, seed: int) -> Figure:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        tool = (*VALGRIND, f"--callgrind-out-file={out}")
        with started(task, python, *tool, seed=seed) as (process, versions):
            _order(process, "--instr=on")
            _call(process)
            _order(process, "--instr=off")
            # It ends, and callgrind writes its file, when there is no more to read.
            process.communicate()
        return Figure(_total(out) / task.calls / 1e3, versions)


def _order(process: subprocess.Popen[str], order: str) -> None:
    command = [*CONTROL, order, str(process.pid)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


def _total(out: Path) -> int:
    found = re.search(r"^totals: (\d+)$", out.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def count(
    tasks: list[Task], pythons: list[str], seeds: int, jobs: int
) -> dict[Task, Figure]:
    """Count side by side: neighbours change the time, and not the instructions."""
    figures: dict[Task, Figure] = {}

    with ThreadPoolExecutor(jobs) as pool:
        counts = {
            task: [
                pool.submit(counted, task, pythons[task.python], seed)
                for seed in range(seeds)
            ]
            for task in tasks
        }
        for task, futures in counts.items():
            found = [future.result() for future in futures]
            amounts = [figure.amount for figure in found]
            figures[task] = Figure(fmean(amounts), found[0].versions)
            shown = ", ".join(f"{amount:,.0f}" for amount in amounts)
            _note(f"{task.case}: {task.way}: {shown}")
    return figures


def _note(line: str) -> None:
    """Show that it goes on; it takes minutes."""
    sys.stderr.write(f"{line}\n")


def rows(pythons: int, figures: dict[Task, Figure]) -> list[tuple[str, ...]]:
    """Compare each interpreter with the first, and ours with each way, on the last."""
    found: list[tuple[str, ...]] = []
    for case, way in dict.fromkeys((task.case, task.way) for task in figures):
        amounts = [figures[Task(number, case, way)].amount for number in range(pythons)]
        ours = figures[Task(pythons - 1, case, CASES[case].way)].amount
        changes = [f"{amount / amounts[0]:.3f}" for amount in amounts[1:]]
        counts = [f"{amount:,.0f}" for amount in amounts]
        found.append((f"{case}: {way}", *counts, *changes, f"{ours / amounts[-1]:.2f}"))
    return found


def claims(python: int, figures: dict[Task, Figure]) -> Iterator[str]:
    """Hold what is claimed against what the last interpreter has executed."""
    amounts = {
        (task.case, task.way): figure.amount
        for task, figure in figures.items()
        if task.python == python
    }
    for (title, way), amount in amounts.items():
        case = CASES[title]
        if case.most is not None and way in case.ours:
            verdict = YES if amount <= case.most else NO
            yield f"{verdict:8}{amount:>6,.0f} <= {case.most}  {title}: {way}"
    for claim in COUNTED:
        ours, other = ((claim.case, way) for way in (claim.ours, claim.other))
        if ours in amounts and other in amounts:
            yield claim.line(amounts[ours] / amounts[other])


def wall(case: str, pythons: list[str], rounds: int) -> list[tuple[str, ...]]:
    """Take the milliseconds of ours; every other round begins at the other end."""
    taken: list[list[float]] = [[] for _ in pythons]
    tasks = [Task(number, case, CASES[case].way) for number in range(len(pythons))]
    with ExitStack() as stack:
        lanes = [
            (task, stack.enter_context(started(task, python))[0], taken[task.python])
            for task, python in zip(tasks, pythons, strict=True)
        ]
        for number in range(rounds):
            for task, process, series in lanes[:: -1 if number % 2 else 1]:
                began = perf_counter()
                _call(process)
                series.append((perf_counter() - began) * 1e3 / task.calls)
            _note(f"{case}: {', '.join(f'{series[-1]:,.2f}' for series in taken)} ms")
    found: list[tuple[str, ...]] = []
    for number, series in enumerate(taken, 1):
        ratios = [own / first for own, first in zip(series, taken[0], strict=True)]
        span = f"{min(ratios):.3f} to {max(ratios):.3f}"
        middle = f"{median(series):,.2f}", f"{median(ratios):.3f}"
        found.append((f"{case}: {CASES[case].way}, {number}", *middle, span))
    return found


def parse() -> Namespace:
    parser = ArgumentParser(
        description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--case", action="append", choices=CASES, help="only this one; repeatable")
    add("--ours", action="store_true", help="only ours, with the queue")
    add("--python", action="append", metavar="PATH", help="repeatable; else, this one")
    add("--seeds", type=int, default=5, help="how many seeds")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    add("--wall", type=int, metavar="ROUNDS", help="milliseconds, in so many rounds")
    given = parser.parse_args()
    if not given.wall and shutil.which(*CONTROL) is None:
        parser.error(
            "valgrind is missing, whose callgrind counts instructions (on Debian: "
            "apt install valgrind); --wall does without"
        )
    return given


def main() -> None:
    given = parse()
    pythons: list[str] = given.python or [sys.executable]
    titles: list[str] = given.case or list(CASES)
    screen = console(130)
    numbers = range(1, len(pythons) + 1)
    if given.wall:
        pin()
        found = [row for case in titles for row in wall(case, pythons, given.wall)]
        heads = "case|ms|to the first, within a round|range"
        show(screen, "Milliseconds per call, median", heads, found)
        return
    tasks = [
        Task(python, title, way)
        for title in titles
        for way in ([CASES[title].way] if given.ours else CASES[title].ways)
        for python in range(len(pythons))
    ]
    figures = count(tasks, pythons, given.seeds, given.jobs)
    for number, python in zip(numbers, pythons, strict=True):
        screen.print(f"{number}: {python}, {figures[tasks[number - 1]].versions}")
    heads = "|".join(["case", *map(str, numbers), *(f"{n} / 1" for n in numbers[1:])])
    title = "Thousands of instructions per call"
    show(screen, title, f"{heads}|ours / this", rows(len(pythons), figures))
    held = list(claims(len(pythons) - 1, figures))
    for line in held:
        screen.print(line)
    if any(line.startswith(NO) for line in held):
        sys.exit("not all that is claimed holds")


if __name__ == "__main__":
    main()
