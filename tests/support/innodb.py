"""Start a MariaDB or a MySQL of our own, in a folder of its own."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import models
import pymysql
import pytest
import words
from fetched import fetched, launch
from servers import free_port, own_folder
from sqlalchemy import Engine, NullPool, Table, create_engine

# Nothing here outlives the run, so nothing needs to reach the disk. What a statement
# sees and waits for is as the server has it.
SETTINGS = [
    *("--no-defaults", "--skip-log-bin", "--max-connections=300"),
    *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"),
    *("--innodb-buffer-pool-size=64M", "--innodb-autoextend-increment=4"),
    # As every distribution has it; MariaDB's own is latin1.
    "--character-set-server=utf8mb4",
]
MARIADB = [
    *("--skip-name-resolve", "--innodb-log-file-size=16M"),
    "--innodb-temp-data-file-path=ibtmp1:4M:autoextend",
]
MYSQL = [
    *("--mysqlx=OFF", "--secure-file-priv=NULL", "--auto-generate-certs=OFF"),
    *("--innodb-redo-log-capacity=32M", "--performance-schema=OFF"),
]
# What a new MariaDB has to know, without its manual and its views for administrators.
SYSTEM = ("system_tables", "performance_tables", "system_tables_data")

# The models that they store; but not those with an index on an expression, a constraint
# that waits for COMMIT, or a type that does not say how long its texts are.
MODULES = ("models", "words")
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
    command = command or (program("mariadbd"),)
    scripts = [next(_share(command).glob(f"m*/m*_{name}.sql")) for name in SYSTEM]
    settings = [*MARIADB, f"--lc-messages-dir={scripts[0].parent}"]
    before = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL;\n"
    tables = before + "".join(script.read_text() for script in scripts)
    start = ["--bootstrap", "--skip-networking"]
    with _running([*command, *SETTINGS, *settings], start, tables) as where:
        yield where


@contextmanager
def mysql(*command: str | Path) -> Iterator[str]:
    """The same for MySQL."""
    share = _share(command) / "mysql"
    settings = [
        f"--plugin-dir={share.parent.parent / 'lib' / 'mysql' / 'plugin'}",
        *(f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}"),
    ]
    start = ["--initialize-insecure"]
    with _running([*command, *SETTINGS, *MYSQL, *settings], start) as where:
        yield where


@contextmanager
def fetched_mariadb() -> Iterator[str]:
    """A MariaDB of the version to come."""
    package = fetched("mariadb-server-core")
    with package as root, mariadb(*launch(root, "mariadbd")) as where:
        yield where


@contextmanager
def fetched_mysql() -> Iterator[str]:
    """A MySQL, which Debian has not released for long."""
    package = fetched("mysql-server-core")
    with package as root, mysql(*launch(root, "mysqld")) as where:
        yield where


@contextmanager
def _running(
    command: Sequence[str | Path], start: Sequence[str], tables: str = ""
) -> Iterator[str]:
    """Make a server's data by *start*, and run it."""
    with own_folder(_memory()) as (home, account), (home / "log").open("wb") as log:
        data, port = home / "data", free_port()
        data.mkdir()
        shutil.chown(data, home.owner(), home.group())
        # A server that starts deletes what another one has in the same `tmpdir`.
        command = [*command, f"--datadir={data}", f"--tmpdir={home}"]
        made = subprocess.run(
            [*command, *start],
            input=tables.encode(),
            check=False,
            stdout=log,
            stderr=log,
            **account,
        )
        if made.returncode != 0:
            raise RuntimeError((home / "log").read_text())
        places = (f"--socket={home / 'socket'}", f"--pid-file={home / 'pid'}")
        network = (f"--port={port}", "--bind-address=127.0.0.1")
        server = subprocess.Popen(
            [*command, *places, *network], stdout=log, stderr=log, **account
        )
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
    models.Base.metadata.create_all(engine, _stored())
    yield engine
    engine.dispose()


def deletes() -> list[str]:
    """The statements that empty all tables."""
    return [str(table.delete()) for table in reversed(_stored())]


def _stored() -> list[Table]:
    mappers = [*models.Base.registry.mappers, *words.Base.registry.mappers]
    ours = {m.local_table for m in mappers if m.class_.__module__.startswith(MODULES)}
    every = models.Base.metadata.sorted_tables
    return [table for table in every if table in ours and table.name not in ELSEWHERE]


def _memory() -> str | None:
    """A folder in memory, if it has room: a new server is ready ten times sooner."""
    folder = "/dev/shm"  # noqa: S108 - the server's own folder is made within
    is_there = os.access(folder, os.W_OK)
    return folder if is_there and shutil.disk_usage(folder).free > 1 << 29 else None


def _share(command: Sequence[str | Path]) -> Path:
    """Where what is installed with a program is."""
    return Path(command[-1]).resolve().parent.parent / "share"


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
