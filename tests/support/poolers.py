"""Start a PgBouncer of our own before a PostgreSQL."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import servers

# Debian has it where only root looks.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(
    server: str, *, program: str | None = PROGRAM, **settings: object
) -> Iterator[str]:
    """Run one in transaction mode; yield ``user@host:port``."""
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("pgbouncer is not installed, and CI has to have it")
        pytest.skip("pgbouncer is not installed")
    user, _, address = server.partition("@")
    host, _, server_port = address.partition(":")
    with servers.own_folder() as (home, account):
        port = servers.free_port()
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "max_client_conn": 300,
            **settings,
        }
        lines = [
            *("[databases]", f"* = host={host} port={server_port} user={user}"),
            *("[pgbouncer]", *(f"{name} = {value}" for name, value in options.items())),
        ]
        (home / "pgbouncer.ini").write_text("\n".join(lines))
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [program, "pgbouncer.ini"], stdout=log, stderr=log, **account
            )
        try:
            _wait(process, port, home / "log")
            yield f"{user}@127.0.0.1:{port}"
        finally:
            process.kill()  # It has nothing to save.
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.01)
