"""Start a MariaDB of our own, from the programs that the machine has."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest
from models import Base
from servers import free_port, own_folder
from sqlalchemy import Engine, NullPool, Table, create_engine

# Nothing here outlives the run, so nothing needs to reach the disk. What a statement
# sees and waits for is as the server has it.
SETTINGS = [
    *("--no-defaults", "--skip-log-bin", "--skip-name-resolve"),
    *("--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite"),
    *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M"),
    *("--innodb-autoextend-increment=4", "--max-connections=300"),
    *("--innodb-temp-data-file-path=ibtmp1:4M:autoextend",),
    # As every distribution has it; the server's own is latin1.
    "--character-set-server=utf8mb4",
]
# What a new MariaDB has to know, without its manual and its views for administrators.
SYSTEM = ("system_tables", "performance_tables", "system_tables_data")

# Models with an index on an expression, a constraint that waits for COMMIT, or a type
# that does not say how long its texts are.
ELSEWHERE = {"note", "path", "person_with_address", "place", "shout"}


def program(name: str) -> Path:
    """Return where it is; without it, skip the test, or fail in CI."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing(f"{name} is not installed")
    return Path(found)


@contextmanager
def mariadb(*command: str | Path) -> Iterator[str]:
    """Run a server for as long as the context lasts; yield ``user@host:port``.

    Args:
        command: What starts it, if not the machine's own; the program comes last.
    """
    *launcher, binary = command or [program("mariadbd")]
    with own_folder(_memory()) as (home, account):
        server = [*launcher, binary, *SETTINGS, f"--datadir={home}"]
        share = Path(binary).resolve().parent.parent / "share"
        subprocess.run(
            [*server, "--bootstrap", "--skip-networking"],
            input=_system_tables(share).encode(),
            check=True,
            capture_output=True,
            **account,
        )
        with running(server, home, account) as where:
            yield where


@contextmanager
def running(
    command: Sequence[str | Path], home: Path, account: dict[str, Any]
) -> Iterator[str]:
    """Run a server that has its data already; yield ``user@host:port``."""
    port = free_port()
    places = (f"--socket={home / 'socket'}", f"--pid-file={home / 'pid'}")
    network = (f"--port={port}", "--bind-address=127.0.0.1")
    with (home / "log").open("wb") as log:
        command = [*command, *places, *network]
        server = subprocess.Popen(command, stdout=log, stderr=log, **account)
    try:
        _wait(server, port, home / "log")
        yield f"root@127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@contextmanager
def tables(where: str) -> Iterator[Engine]:
    """A synchronous engine for a new database ``goc_test``, which has our tables."""
    # A tree's rows refer to each other, and are deleted in any order.
    options = {"init_command": "SET foreign_key_checks = 0"}
    url = f"mysql+pymysql://{where}/goc_test"
    engine = create_engine(url, connect_args=options)
    admin = create_engine(engine.url.set(database="mysql"), poolclass=NullPool)
    with admin.begin() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS goc_test")
        connection.exec_driver_sql("CREATE DATABASE goc_test")
    Base.metadata.create_all(engine, _stored())
    yield engine
    engine.dispose()


def deletes() -> list[str]:
    """The statements that empty all tables."""
    return [str(table.delete()) for table in reversed(_stored())]


def _stored() -> list[Table]:
    return [t for t in Base.metadata.sorted_tables if t.name not in ELSEWHERE]


def _memory() -> str | None:
    """A folder in memory, if it has room: a new server is ready ten times sooner."""
    folder = "/dev/shm"  # noqa: S108 - the server's own folder is made within
    is_there = os.access(folder, os.W_OK)
    return folder if is_there and shutil.disk_usage(folder).free > 1 << 29 else None


def _system_tables(share: Path) -> str:
    scripts = [next(share.glob(f"m*/m*_{name}.sql")).read_text() for name in SYSTEM]
    settings = "SET @auth_root_socket = NULL, @skip_auth_anonymous = 1;"
    return "\n".join(["CREATE DATABASE mysql;", "USE mysql;", settings, *scripts])


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            pymysql.connect(host="127.0.0.1", port=port, user="root").close()
        except pymysql.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from error
            time.sleep(0.02)
        else:
            return
