"""Fetch servers that the machine's Debian does not have yet, into a folder of our own.

They come from where the machine's own packages come from, but from the suite in which
Debian makes its next release, with every library that they need. Nothing is installed.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

import pytest

SUITE = "unstable"
PATIENCE = 40  # seconds, so that the test ends before its own time has run out
# The workers of one run share a folder.
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid4().hex)


@contextmanager
def fetched(package: str) -> Iterator[Path]:
    """Have a package below a folder, which goes with the last who uses it.

    Where it cannot be had, in CI too, the test is skipped: the suite changes daily.
    """
    folder = Path(tempfile.gettempdir()) / f"goc-{RUN}-{package}"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # Servers run as another user.
    failure = folder / "failure"
    try:
        with _alone(folder, 1) as is_first:
            if is_first:
                try:
                    _fetch(package, folder)
                except (OSError, LookupError, subprocess.SubprocessError) as error:
                    said = getattr(error, "stderr", None) or ""
                    failure.write_text(f"{error!r} {said}")
            if failure.exists():
                pytest.skip(f"NOT TESTED without {package}: {failure.read_text()}")
        yield folder / "root"
    finally:
        with _alone(folder, -1) as is_last:
            if is_last:
                shutil.rmtree(folder)


def launch(root: Path, program: str) -> list[str | Path]:
    """Return a command that runs the program with its own libraries."""
    loader = next(root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))
    return [loader, "--library-path", loader.parent, root / "usr" / "sbin" / program]


@contextmanager
def _alone(folder: Path, change: int) -> Iterator[bool]:
    """Count the users; yield whether this one is the first, or was the last."""
    with (folder / "users").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        users = _add(file, change)
        yield users == max(change, 0)


def _add(file: IO[str], change: int) -> int:
    file.seek(0)
    users = int(file.read() or 0) + change
    file.truncate(0)
    file.write(str(users))
    file.flush()
    return users


def _fetch(package: str, folder: Path) -> None:
    until = time.monotonic() + PATIENCE

    def run(*command: str) -> str:
        left = max(until - time.monotonic(), 0)
        return subprocess.run(
            command, capture_output=True, check=True, text=True, timeout=left
        ).stdout

    for name in ("state/lists/partial", "cache/archives/partial", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    sources = folder / "sources.list"
    sources.write_text(f"deb {_mirror(run)} {SUITE} main\n")
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Acquire::Languages": "none",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "-qq", "-y", *(f"-o{k}={v}" for k, v in settings.items())]
    run(*apt, "update")
    run(*apt, "--download-only", "install", package)
    for archive in (folder / "cache" / "archives").glob("*.deb"):
        run("dpkg-deb", "-x", str(archive), str(folder / "root"))


def _mirror(run: Callable[..., str]) -> str:
    """Where the machine's own packages come from, if it is a Debian."""
    form = "$(REPO_URI) $(COMPONENT)"
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
    lines = run("apt-get", "indextargets", "--format", form, *wanted)
    for uri, component in map(str.split, lines.splitlines()):
        if component == "main":
            return uri
    raise LookupError(wanted)
