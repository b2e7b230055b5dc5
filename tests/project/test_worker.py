"""The worker example counts each event once, however often its processes are killed."""

import asyncio
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, delete, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession
from waiting import until

# Every run has to start its processes, which takes long on a busy machine.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the example."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return runpy.run_path(str(EXAMPLES / "worker.py"))


@pytest.fixture
def worker_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the example's own, empty."""
    if backend.startswith("sqlite"):
        return f"{backend}:///{tmp_path / 'worker.db'}"
    server: str = request.getfixturevalue("server")
    default = f"postgresql://{server}/postgres"
    with psycopg.connect(default, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS goc_worker WITH (FORCE)")
        admin.execute("CREATE DATABASE goc_worker")
    return f"{backend}://{server}/goc_worker"


@pytest.fixture
def database(worker_url: str) -> Iterator[Engine]:
    """A synchronous engine for it, whose reads lock nothing."""
    url = make_url(worker_url)
    is_sqlite = url.drivername.startswith("sqlite")
    engine = create_engine(
        url.set(drivername="sqlite" if is_sqlite else "postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
    )
    yield engine
    engine.dispose()


@contextmanager
def started(url: str, *options: object) -> Iterator[subprocess.Popen[str]]:
    """A run of the example."""
    command = [sys.executable, "-W", "error", EXAMPLES / "worker.py", "--url", url]
    with subprocess.Popen(
        [*command, *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def figures(process: subprocess.Popen[str], code: int = 0) -> dict[str, str]:
    """What a run that ends with *code* prints."""
    out, complaints = process.communicate()
    assert process.returncode == code, complaints
    assert "Traceback" not in complaints
    return dict(re.findall(r"│ +(.+?) +│ +(\S+) │", out))


def scalar(connection: Connection, query: str) -> int:
    number: int = connection.scalar(text(query))
    return number


def test_worker(worker_url: str, database: Engine) -> None:
    """Two runs count all events of both, and their check sees a wrong count."""
    options = ["--events", 60, "--workers", 3, "--processes", 2]
    created = 0
    for run in 1, 2:
        with started(worker_url, *options) as process:
            seen = figures(process)
        created += int(seen["rows created"])
        assert seen["events"] == "60"
        assert int(seen["names in the database"]) == created
        assert int(seen["calls"]) >= created
        assert seen["each event counted once"] == "yes"
        with database.connect() as connection:
            # Each event has one user and one place.
            assert scalar(connection, 'SELECT sum(events) FROM "user"') == 60 * run
            assert scalar(connection, "SELECT sum(events) FROM place") == 60 * run
            assert scalar(connection, "SELECT count(*) FROM event") == 0
    with database.connect() as connection:
        connection.execute(text("UPDATE tag SET events = events + 1 WHERE id = 1"))
    with started(worker_url, *options) as process:
        assert figures(process, 1)["each event counted once"] == "NO"


def processes_of(parent: int) -> list[int]:
    """The process and, on Linux, its workers, but not Python's resource tracker."""
    found = [parent]
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            _, _, status = (folder / "stat").read_text().rpartition(")")
            is_worker = b"spawn_main" in (folder / "cmdline").read_bytes()
            if is_worker and int(status.split()[1]) == parent:
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("backend", "processes"),
    [("sqlite+aiosqlite", 1), ("postgresql+asyncpg", 4)],
    indirect=["backend"],
)
def test_killed_worker(
    worker: dict[str, Any], worker_url: str, database: Engine, processes: int
) -> None:
    """Any process is killed at any moment, five times: each event is counted once.

    After each kill the example is run again. If its first process is killed, the others
    end, too; if another one is, the rest of them finish its work.
    """
    random = Random("kill")  # noqa: S311
    killed = 0
    with database.connect() as connection:
        while killed < 5:
            queued = asyncio.run(worker["fill"](worker_url, 200))
            moment = random.randrange(queued)
            with started(worker_url, "--processes", processes) as process:
                while scalar(connection, "SELECT count(*) FROM event") > moment:
                    # Asking without a pause would take the time of those who work.
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(0.01)
                        pytest.fail(str(process.communicate()))
                victim = random.choice(processes_of(process.pid))
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # It had done its work.
                killed += 1
                out, _ = process.communicate()
            if victim != process.pid:
                assert re.search("counted once +│ yes", out), out
                assert processes == 1 or process.returncode == 0, out
        with started(worker_url, "--events", 10) as process:
            seen = figures(process)
        assert seen["each event counted once"] == "yes"
        assert seen["events left in the queue"] == "0"
        filled = scalar(connection, "SELECT sum(events) FROM filling")
        assert scalar(connection, 'SELECT sum(events) FROM "user"') == filled


@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_a_worker_waits_for_what_others_hold(
    worker: dict[str, Any], worker_url: str, database: Engine, is_killed: bool
) -> None:
    """A worker does not end while another one may yet leave its events to it."""
    queued = await worker["fill"](worker_url, 3)
    async with (
        worker["open_engine"](worker_url, 2) as engine,
        AsyncSession(engine) as one,
        AsyncSession(engine) as two,
    ):
        held = await worker["take"](one, 0, 2)
        assert len(held) == queued == 3
        waits = asyncio.create_task(worker["take"](two, 1, 2))
        with database.connect() as connection:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await until(lambda: scalar(connection, query))
        if is_killed:
            await one.close()
        else:
            await one.execute(delete(worker["Event"]))
            await one.commit()
        assert await waits == (held if is_killed else {})
