"""Start a Galera cluster and HAProxy on this machine, in a folder of their own."""

import asyncio
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

import asyncmy
from asyncmy.errors import MySQLError

HOST: Final = "127.0.0.1"
DATABASE: Final = "example"
_TEMPLATES: Final = Path(__file__).parent
_PROGRAMS: Final = ("mariadbd", "mariadb-install-db", "haproxy")
# Programs of administrators may not be on a user's path.
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_LIBRARY: Final = "libgalera_smm.so"
_LIBRARIES: Final = ("lib/galera", "lib/galera-4", "lib64/galera-4", "local/lib/galera")
# Seconds that the cluster has to get ready in.
_PATIENCE: Final = 60

Start = Callable[..., subprocess.Popen[bytes]]


@dataclass(frozen=True)
class Node:
    """A server of the cluster."""

    name: str
    log: Path
    port: int
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def isolate(self) -> None:
        """Cut it off from the other nodes, but not from its clients."""
        asyncio.run(self.ask("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'"))

    async def ask(self, *statements: str) -> Any:
        """Execute the statements; return the first row of the last one's result."""
        connection = await asyncmy.connect(host=HOST, port=self.port, user="root")
        try:
            async with connection.cursor() as cursor:
                for statement in statements:
                    await cursor.execute(statement)
                return await cursor.fetchone()
        finally:
            connection.close()

    async def get_ready(self) -> None:
        """Wait until it takes statements."""
        while True:
            if self.process.poll() is not None:
                log = self.log.read_text(errors="replace")
                sys.exit(f"{self.name} has ended:\n{log[-3000:]}")
            try:
                _, is_ready = await self.ask("SHOW STATUS LIKE 'wsrep_ready'")
            except (MySQLError, OSError):
                is_ready = "OFF"
            if is_ready == "ON":
                return
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Cluster:
    """The nodes, and HAProxy's ports: for any of them, and for the one that writes."""

    nodes: list[Node]
    any_node: int
    one_writer: int


@contextmanager
def running(folder: Path, size: int) -> Iterator[Cluster]:
    """Run some nodes, and HAProxy before them, as long as the context lasts."""
    with _processes(folder) as start:
        any_node, one_writer, *ports = _free_ports(2 + 3 * size)
        triples = [ports[3 * number :][:3] for number in range(size)]
        nodes = _start_nodes(folder, triples, start)
        asyncio.run(_get_ready(nodes))
        servers = [f"    server {node.name} {HOST}:{node.port}" for node in nodes]
        reserves = [f"{server} backup" for server in servers[1:]]
        _fill(
            "haproxy.cfg",
            folder,
            any_node=any_node,
            one_writer=one_writer,
            servers="\n".join(servers),
            writer_and_reserves="\n".join([servers[0], *reserves]),
        )
        start("haproxy.log", _program("haproxy"), "-db", "-f", folder / "haproxy.cfg")
        asyncio.run(_listening(any_node))
        yield Cluster(nodes, any_node, one_writer)


async def _get_ready(nodes: list[Node]) -> None:
    async with asyncio.timeout(_PATIENCE):
        await asyncio.gather(*[node.get_ready() for node in nodes])
        # What creates something is executed by all of the nodes.
        database = f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"
        await nodes[0].ask(database, f"CREATE USER haproxy@'{HOST}'")


def missing() -> list[str]:
    """Return what has to be installed before."""
    names = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    return names if _galera().exists() else [*names, _LIBRARY]


def _program(name: str) -> str:
    return shutil.which(name, path=_PATH) or name


def _galera() -> Path:
    paths = [Path("/usr", folder, _LIBRARY) for folder in _LIBRARIES]
    return next((path for path in paths if path.exists()), paths[0])


@contextmanager
def _processes(folder: Path) -> Iterator[Start]:
    """Start processes that do not outlive the context."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # MariaDB refuses to run as root.
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
        folder.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []

    def start(log: str, *command: object) -> subprocess.Popen[bytes]:
        with (folder / log).open("ab") as out:
            process = subprocess.Popen(  # noqa: S603 - programs of the system
                [*map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=folder,
                # Ctrl-C is for this process alone, which then ends the others.
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads
                **account,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _end_with_parent() -> None:
    """Have Linux kill this process when its parent is killed."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _start_nodes(folder: Path, ports: list[list[int]], start: Start) -> list[Node]:
    """Start all nodes at once, with the same data."""
    empty = folder / "empty"
    install = (_program("mariadb-install-db"), "--no-defaults", f"--datadir={empty}")
    options = ("--auth-root-authentication-method=normal", "--skip-test-db")
    # (A server that starts deletes temporary tables, another's too.)
    own = (f"--tmpdir={folder}", "--innodb-log-file-size=16M")
    if start("install.log", *install, *options, *own).wait() != 0:
        sys.exit((folder / "install.log").read_text())
    # They begin as after a power cut at all of them: they know who was in the cluster,
    # wait for each other, and find that all have the same data. Where one begins alone,
    # and each of the others copies its data, that takes 6 seconds for each.
    members = [uuid.uuid1() for _ in ports]
    addresses = [f"{HOST}:{cluster_port}" for _, cluster_port, _ in ports]
    shared = {
        "galera": _galera(),
        "cluster": uuid.uuid4(),
        "first_member": members[0],
        "members": "\n".join(f"member: {member} 0" for member in members),
        # A node that is alone has nobody to ask.
        "addresses": ",".join(addresses if len(ports) > 1 else []),
    }
    nodes: list[Node] = []
    for number, (port, cluster_port, transfer_port) in enumerate(ports):
        home = folder / f"node-{number + 1}"
        start("install.log", "cp", "-r", empty, home).wait()
        values = {
            "home": home,
            "name": home.name,
            "port": port,
            "cluster_port": cluster_port,
            "transfer_port": transfer_port,
            "this_member": members[number],
        }
        for name in ("node.cnf", "grastate.dat", "gvwstate.dat"):
            _fill(name, home, **shared, **values)
        log, settings = f"{home.name}.log", f"--defaults-file={home / 'node.cnf'}"
        server = start(log, _program("mariadbd"), settings)
        nodes.append(Node(home.name, folder / log, port, server))
    return nodes


def _fill(name: str, folder: Path, /, **values: object) -> None:
    """Write a configuration file, with these values in the places of their names."""
    text = Template((_TEMPLATES / name).read_text()).substitute(values)
    (folder / name).write_text(text)
    if os.geteuid() == 0:
        shutil.chown(folder / name, "nobody", "nogroup")


def _free_ports(number: int) -> list[int]:
    """Return ports that are not in use, nor given to outgoing connections by Linux."""
    ports: list[int] = []
    while len(ports) < number:
        port = random.randrange(10_000, 32_000)  # noqa: S311
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex((HOST, port)) != 0:
                ports.append(port)
    return ports


async def _listening(port: int) -> None:
    """Wait until HAProxy listens; it opens all of its ports at once."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
