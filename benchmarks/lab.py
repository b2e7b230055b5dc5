"""What the benchmarks share: a table, a server, a core, and how results are shown."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import BigInteger, Integer, Text, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Sessions = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase): ...


class Tag(Base):
    __tablename__ = "benchmark_tag"
    # Only an INTEGER of SQLite's numbers its rows.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True
    )
    name: Mapped[str] = mapped_column(Text, unique=True)
    uses: Mapped[int] = mapped_column(default=0)


def postgres() -> AbstractContextManager[str]:
    """Return the tests' own server, not yet started."""
    started: AbstractContextManager[str] = _support("servers").postgres()
    return started


# All that the tests know to start, by the functions that do it.
SERVERS: Final = {
    "sqlite": "",
    "postgres": "",
    "mariadb10": "mariadb",
    "mariadb11": "fetched_mariadb",
    "mysql9": "fetched_mysql",
}


@contextmanager
def running(name: str) -> Iterator[str]:
    """Run a server with an empty database; yield what stands after its driver's ://."""
    if name == "sqlite":
        with TemporaryDirectory() as folder:
            yield f"/{Path(folder) / 'empty.db'}"
    elif name == "postgres":
        with postgres() as where:
            yield f"{where}/postgres"
    else:
        with getattr(_support("innodb"), SERVERS[name])() as where:
            admin = create_engine(f"mysql+pymysql://{where}")
            with admin.connect() as connection:
                connection.exec_driver_sql("CREATE DATABASE scratch")
            admin.dispose()
            yield f"{where}/scratch"


def _support(module: str) -> Any:
    """Return a module of what the tests share."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
    return importlib.import_module(module)


@contextmanager
def tables(where: str) -> Iterator[None]:
    """Make the table."""
    engine = create_engine(f"postgresql+psycopg://{where}/postgres")
    Base.metadata.create_all(engine)
    yield
    engine.dispose()


def pin() -> None:
    """Share one core with the server, which is started later.

    On two, who waits for whom wakes up another core each time: that takes longer than
    what is measured, and depends on who ran before.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def console(width: int) -> Console:
    """Return one that is so wide where it is not a terminal."""
    return Console(width=None if Console().is_terminal else width, highlight=False)


def show(console: Console, title: str, heads: str, rows: list[tuple[Any, ...]]) -> None:
    """Print a table; the columns are named in *heads*, with bars between."""
    names = heads.split("|")
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
    console.print()
