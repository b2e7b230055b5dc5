"""Store who imports whom in the Python standard library, with many workers at once.

    python examples/import_graph.py
    python examples/import_graph.py --workers 16 --package json --package asyncio
    python examples/import_graph.py --url postgresql+asyncpg://me@localhost/imports
    python examples/import_graph.py --bulk

The library is that of the interpreter which runs this; a second run creates nothing.
An import counts wherever it stands, and ``from a import b`` as one of ``a.b`` where
that is a module, else of ``a``. Tests are left out, unless ``--package`` names them.
With ``--bulk`` the tables are emptied, and filled one row at a time, then all at once.
"""

import argparse
import ast
import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import resolve_name
from pathlib import Path
from sysconfig import get_path
from threading import Lock
from time import perf_counter

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from sqlalchemy import ForeignKey, String, UniqueConstraint, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from async_goc import (
    Outcome,
    Policy,
    Stats,
    get_or_create,
    get_or_create_many,
    sqlite,
)

Sessions = async_sessionmaker[AsyncSession]
INSTALLED = {"site-packages", "dist-packages"}
TESTS = {"test", "tests", "idle_test"}
# Python 3.11's ast.parse, on two threads at once, sometimes ends in a SystemError.
PARSING = Lock()


class Base(DeclarativeBase): ...


class Module(Base):
    __tablename__ = "module"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)


class Import(Base):
    __tablename__ = "import"
    __table_args__ = (UniqueConstraint("importer_id", "imported_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    importer_id: Mapped[int] = mapped_column(ForeignKey(Module.id))
    imported_id: Mapped[int] = mapped_column(ForeignKey(Module.id))
    importer: Mapped[Module] = relationship(foreign_keys=importer_id)
    imported: Mapped[Module] = relationship(foreign_keys=imported_id)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did, and how many modules import each one, most imported first."""

    files: int
    skipped: int
    seconds: float
    stats: Stats
    importers: list[tuple[str, int]]


async def import_graph(
    url: str,
    names: Collection[str],
    library: Mapping[str, Path],
    workers: int = 8,
    on_done: Callable[[], object] = lambda: None,
    *,
    is_empty: bool = False,
) -> Report:
    """Store what the modules *names* of *library* import; call *on_done* after each."""
    stats = Stats()
    # On SQLite, what holds a key may itself wait for the transactions of all others.
    policy = Policy(observer=stats, wait_timeout=10)
    queue = iter(names)
    async with connected(url, workers, is_empty=is_empty) as sessions:
        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work(queue, library, sessions, policy, on_done))
                for _ in range(workers)
            ]
        seconds = perf_counter() - started
        async with sessions() as session:
            return Report(
                files=len(names),
                skipped=sum(task.result() for task in tasks),
                seconds=seconds,
                stats=stats,
                importers=await count_importers(session),
            )


async def import_in_bulk(
    url: str,
    names: Collection[str],
    library: Mapping[str, Path],
    on_done: Callable[[], object] = lambda: None,
) -> Report:
    """Do the same into emptied tables, all modules at once, and all edges."""
    stats = Stats()
    policy = Policy(observer=stats)
    async with connected(url, 1, is_empty=True) as sessions:
        started = perf_counter()
        imports: dict[str, set[str]] = {}
        for name in names:
            found = await asyncio.to_thread(read_imports, name, library)
            if found is not None:
                imports[name] = found
            on_done()
        async with sessions.begin() as session:
            await store_all(session, imports, policy)
        seconds = perf_counter() - started
        async with sessions() as session:
            return Report(
                files=len(names),
                skipped=len(names) - len(imports),
                seconds=seconds,
                stats=stats,
                importers=await count_importers(session),
            )


async def store_all(
    session: AsyncSession, imports: Mapping[str, set[str]], policy: Policy
) -> None:
    """Ask for all modules, then for all edges; the order is not ours to think of."""
    names = {*imports, *(name for found in imports.values() for name in found)}
    rows = [{"name": name} for name in names]
    modules = await get_or_create_many(session, Module, rows, policy=policy)
    ids = {module.name: module.id for module, _ in modules}
    edges = [
        {"importer_id": ids[importer], "imported_id": ids[name]}
        for importer, found in imports.items()
        for name in found
    ]
    await get_or_create_many(session, Import, edges, policy=policy)


@asynccontextmanager
async def connected(
    url: str, workers: int, *, is_empty: bool = False
) -> AsyncIterator[Sessions]:
    """Make the tables, and yield sessions, with a connection for each worker."""
    engine = create_async_engine(url, pool_size=workers)
    if engine.dialect.name == "sqlite":
        # One transaction writes at a time, and all other workers wait for it.
        sqlite.configure(engine, busy_timeout=60)
    try:
        async with engine.begin() as connection:
            if is_empty:
                await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)
        yield async_sessionmaker(engine)
    finally:
        await engine.dispose()


async def work(
    queue: Iterator[str],
    library: Mapping[str, Path],
    sessions: Sessions,
    policy: Policy,
    on_done: Callable[[], object],
) -> int:
    """Store one module of the queue after the other; return how many do not parse."""
    skipped = 0
    for name in queue:
        # Before the transaction begins: nobody has to wait for our locks meanwhile.
        imports = await asyncio.to_thread(read_imports, name, library)
        if imports is None:
            skipped += 1
        else:
            async with sessions.begin() as session:
                await store(session, name, imports, policy)
        on_done()
    return skipped


async def store(
    session: AsyncSession, importer: str, imports: set[str], policy: Policy
) -> None:
    """Ask for the modules and the edges of one file, in the session's transaction."""
    # Sorted, the modules first: every transaction inserts its keys in the same order.
    # In different orders two of them would wait for each other, and PostgreSQL would
    # end one (deadlock detected, 40P01).
    found: dict[str, Module] = {}
    for name in sorted({importer, *imports}):
        found[name], _ = await get_or_create(session, Module, name=name, policy=policy)
    owner = found[importer]
    for name in sorted(imports):
        await get_or_create(
            session, Import, importer=owner, imported=found[name], policy=policy
        )


async def count_importers(session: AsyncSession) -> list[tuple[str, int]]:
    importers = func.count(Import.id)
    found = await session.execute(
        select(Module.name, importers)
        .outerjoin(Import, Import.imported_id == Module.id)
        .group_by(Module.name)
        .order_by(importers.desc(), Module.name)
    )
    return [(name, number) for name, number in found]


def standard_library() -> dict[str, Path]:
    """Return the file of every module that is written in Python, by dotted name."""
    root = Path(get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        # A folder like config-3.12-x86_64-linux-gnu cannot be imported.
        if INSTALLED.isdisjoint(parts) and all(map(str.isidentifier, parts)):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def choose(names: Collection[str], packages: Collection[str]) -> list[str]:
    """Return *packages* and what is in them; without any, everything but tests."""
    if not packages:
        return [name for name in names if TESTS.isdisjoint(name.split("."))]
    inside = tuple(f"{package}." for package in packages)
    return [name for name in names if name in packages or name.startswith(inside)]


def read_imports(importer: str, library: Mapping[str, Path]) -> set[str] | None:
    """Return what *importer* imports; ``None`` if its file cannot be parsed."""
    path = library[importer]
    package = importer if path.stem == "__init__" else importer.rpartition(".")[0]
    try:
        with PARSING:
            nodes = ast.walk(ast.parse(path.read_bytes()))
        return {name for node in nodes for name in targets(node, package, library)}
    # ImportError: the dots of a relative import lead out of the library.
    except (SyntaxError, ImportError):
        return None


def targets(node: ast.AST, package: str, library: Collection[str]) -> Iterator[str]:
    """Yield the names of the modules that *node*, within *package*, imports."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            origin = resolve_name("." * level + (module or ""), package)
            inner = (f"{origin}.{alias.name}" for alias in names)
            yield from (name if name in library else origin for name in inner)


def show(report: Report, console: Console) -> None:
    stats = report.stats
    numbers = {
        "files read": report.files - report.skipped,
        "files skipped": report.skipped,
        "calls": stats.counts.total(),
        "hits": stats[Outcome.HIT],
        "created": stats[Outcome.CREATED],
        "lost races": stats[Outcome.LOST_RACE],
        "modules": len(report.importers),
        "edges": sum(number for _, number in report.importers),
        "seconds": round(report.seconds, 1),
    }
    most = report.importers[:10]
    for title, rows in ("Import graph", numbers.items()), ("Most imported", most):
        table = Table("", Column(justify="right"), title=title, show_header=False)
        for name, number in rows:
            table.add_row(name, f"{number:,}")
        console.print(table)


def compare(reports: Mapping[str, Report], console: Console) -> None:
    """Print the times of both ways, side by side."""
    table = Table("", *reports, title="The same rows, reading the files included")
    for title, show_one in (
        ("modules and edges", lambda r: f"{sum(n + 1 for _, n in r.importers):,}"),
        ("calls", lambda r: f"{r.stats.counts.total():,}"),
        ("seconds", lambda r: f"{r.seconds:.1f}"),
    ):
        table.add_row(title, *map(show_one, reports.values()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="sqlite+aiosqlite:///import_graph.db")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--package", action="append", default=[], metavar="NAME")
    parser.add_argument("--bulk", action="store_true", help="compare with one by one")
    args = parser.parse_args()
    library = standard_library()
    names = choose(library, args.package)
    if not names:
        parser.error(f"no module of the standard library is in {args.package}")
    # On standard error, so that the tables can be redirected without it.
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("modules", total=len(names) * (1 + args.bulk))
        advance = partial(progress.advance, task)
        run = import_graph(
            args.url, names, library, args.workers, advance, is_empty=args.bulk
        )
        report = asyncio.run(run)
        reports = {"one by one": report}
        if args.bulk:
            run = import_in_bulk(args.url, names, library, advance)
            reports["in bulk"] = asyncio.run(run)
    show(report, Console())
    if args.bulk:
        compare(reports, Console())


if __name__ == "__main__":
    main()
