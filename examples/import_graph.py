"""Store who imports whom in the Python standard library, in bulk or one by one.

    python examples/import_graph.py
    python examples/import_graph.py --one-by-one --workers 16
    python examples/import_graph.py --package json --package asyncio
    python examples/import_graph.py --url postgresql+asyncpg://me@localhost/imports

The library is that of the interpreter which runs this; a second run creates nothing.
An import counts wherever it stands, and ``from a import b`` as one of ``a.b`` where
that is a module, else of ``a``. Tests are left out, unless ``--package`` names them.
With ``--one-by-one`` the tables are emptied, and filled by many workers at once, with a
call for each row; then they are emptied again, and filled in bulk.
"""

import argparse
import ast
import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import resolve_name
from pathlib import Path
from sysconfig import get_path
from time import perf_counter
from typing import Any
from warnings import catch_warnings

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table
from sqlalchemy import ForeignKey, String, UniqueConstraint, event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from async_goc import (
    Outcome,
    Policy,
    Stats,
    get_or_create,
    get_or_create_ids,
    sqlite,
)

Sessions = async_sessionmaker[AsyncSession]
# A module, and what it imports.
Found = tuple[str, set[str]]
INSTALLED = {"site-packages", "dist-packages"}
TESTS = {"test", "tests", "idle_test"}


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


async def store_in_bulk(
    graph: Collection[Found], sessions: Sessions, stats: Stats
) -> int:
    """Ask for all modules, then for all edges; return how many rows are new."""
    policy = Policy(observer=stats)
    # In any order, each as often as it is found: that is for the calls to sort out.
    names = [name for importer, imports in graph for name in (importer, *imports)]
    async with sessions.begin() as session:
        # An edge refers to its modules by their keys: nobody needs 1,000 objects.
        modules = await get_or_create_ids(
            session, Module, names, key="name", policy=policy
        )
        ids = {name: id_ for name, (id_, _) in zip(names, modules, strict=True)}
        rows = [
            {"importer_id": ids[importer], "imported_id": ids[name]}
            for importer, imports in graph
            for name in imports
        ]
        edges = await get_or_create_ids(session, Import, rows, policy=policy)
        return sum(created for _, created in (*modules, *edges))


async def store_one_by_one(
    graph: Iterable[Found], workers: int, sessions: Sessions, stats: Stats
) -> int:
    """Let workers share the files, a transaction each; return how many rows are new."""
    # All rivals are in this process, so that nothing is gained by asking the database.
    policy = Policy(observer=stats, wait_timeout=None)
    queue = iter(graph)

    async def work() -> None:
        for importer, imports in queue:
            async with sessions.begin() as session:
                await store_file(session, importer, imports, policy)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return stats["created"]


async def store_file(
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


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did, and how many modules import each one, most imported first."""

    created: int
    stats: Stats
    statements: Counter[str]
    seconds: float
    importers: list[tuple[str, int]]


async def run(
    url: str,
    way: Callable[[Sessions, Stats], Coroutine[Any, Any, int]],
    connections: int = 1,
    *,
    is_empty: bool = False,
) -> Report:
    """Make the tables, store the graph *way*, and count what that takes."""
    stats, statements = Stats(), Counter[str]()
    engine = create_async_engine(url, pool_size=connections)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine)
    try:
        async with engine.begin() as connection:
            if is_empty:
                await connection.run_sync(Base.metadata.drop_all)
            await connection.run_sync(Base.metadata.create_all)

        def count(*args: Any) -> None:
            statements[args[2].partition(" ")[0]] += 1

        event.listen(engine.sync_engine, "before_cursor_execute", count)
        sessions = async_sessionmaker(engine)
        started = perf_counter()
        created = await way(sessions, stats)
        seconds = perf_counter() - started
        event.remove(engine.sync_engine, "before_cursor_execute", count)
        async with sessions() as session:
            return Report(
                created=created,
                stats=stats,
                statements=statements,
                seconds=seconds,
                importers=await count_importers(session),
            )
    finally:
        await engine.dispose()


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
        # What the parser warns of is up to the library's authors.
        with catch_warnings(action="ignore"):
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


def show(report: Report, read: int, skipped: int, console: Console) -> None:
    numbers = {
        "files read": read,
        "files skipped": skipped,
        "modules": len(report.importers),
        "edges": sum(number for _, number in report.importers),
    }
    most = report.importers[:10]
    for title, rows in ("Import graph", numbers.items()), ("Most imported", most):
        table = Table("", Column(justify="right"), title=title, show_header=False)
        for name, number in rows:
            table.add_row(name, f"{number:,}")
        console.print(table)


def compare(reports: Mapping[str, Report], console: Console) -> None:
    """Print what each way took, side by side."""

    def lines(numbers: Mapping[str, int]) -> str:
        return "\n".join(f"{number:,} {name}" for name, number in numbers.items())

    table = Table("", *reports, title="What it took", show_lines=True)
    for title, show_one in (
        ("new rows", lambda r: f"{r.created:,}"),
        ("calls", lambda r: f"{r.stats.counts.total():,}"),
        ("outcomes", lambda r: lines({o: r.stats[o] for o in Outcome if r.stats[o]})),
        ("statements", lambda r: lines(r.statements)),
        ("seconds", lambda r: f"{r.seconds:.1f}"),
    ):
        table.add_row(title, *map(show_one, reports.values()))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="sqlite+aiosqlite:///import_graph.db")
    parser.add_argument("--package", action="append", default=[], metavar="NAME")
    parser.add_argument("--one-by-one", action="store_true", help="compare with that")
    parser.add_argument("--workers", type=int, default=8, help="if one by one")
    args = parser.parse_args()
    library = standard_library()
    names = choose(library, args.package)
    if not names:
        parser.error(f"no module of the standard library is in {args.package}")
    reports: dict[str, Report] = {}
    # On standard error, so that the tables can be redirected without it.
    with Progress(console=Console(stderr=True)) as progress:
        files = progress.track(names, description="reading")
        parsed = [(name, read_imports(name, library)) for name in files]
        graph = [(name, imports) for name, imports in parsed if imports is not None]
        if args.one_by_one:
            shared = progress.track(graph, description="one by one")
            way = partial(store_one_by_one, shared, args.workers)
            slow = run(args.url, way, args.workers, is_empty=True)
            reports["one by one"] = asyncio.run(slow)
        fast = run(args.url, partial(store_in_bulk, graph), is_empty=args.one_by_one)
        progress.add_task("in bulk", total=None)
        reports["in bulk"] = asyncio.run(fast)
    show(reports["in bulk"], len(graph), len(names) - len(graph), Console())
    compare(reports, Console())


if __name__ == "__main__":
    main()
