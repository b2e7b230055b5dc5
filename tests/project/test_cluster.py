"""The cluster example: no row twice, nothing lost that was acknowledged, no remains."""

import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

# Every run has to start a cluster, and one that loses a node needs 6 seconds for that.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(180)]

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the example, where its programs are installed."""
    monkeypatch.syspath_prepend(CLUSTER)
    names = runpy.run_path(str(CLUSTER / "run.py"))
    if lacking := names["missing"]():
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"not installed: {', '.join(lacking)}")
    return names


def command(*options: object) -> list[str]:
    program = [sys.executable, "-W", "error", CLUSTER / "run.py"]
    return [str(each) for each in (*program, *options)]


@pytest.mark.parametrize(
    ("through", "fault"), [("haproxy", "kill"), ("creator", "isolate")]
)
@pytest.mark.usefixtures("example")
def test_a_node_is_lost(through: str, fault: str) -> None:
    """Three nodes, one of which is lost: the others have all that was acknowledged."""
    options = ("--through", through, "--fault", fault, "--tasks", 2, "--keys", 8)
    done = subprocess.run(
        command(*options), capture_output=True, check=False, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    seen = dict(re.findall(r"│ +(.+?) +│ +(.+?) │", done.stdout))
    assert seen["transactions acknowledged"] == "96"
    assert seen["each key once, on every node"] == "yes"
    assert seen["acknowledged, and missing"] == seen["keys created twice"] == "0"
    left = [name for name in seen if name.startswith("tags, places, visits")]
    assert len(left) == 2
    assert {seen[name] for name in left} == {"8 + 8 + 48"}


def running(folder: str) -> list[bytes]:
    """The programs that were started there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            program, *arguments = path.read_bytes().split(b"\0")
            if any(folder.encode() in each for each in arguments):
                found.append(program.rpartition(b"/")[2])
    return found


@pytest.fixture
def readable() -> Iterator[str]:
    """A folder that the database's account can read."""
    with tempfile.TemporaryDirectory(prefix="goc-") as folder:
        Path(folder).chmod(0o755)
        yield folder


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.usefixtures("example")
def test_nothing_outlives_the_command(readable: str, how: signal.Signals) -> None:
    """However the command ends, its servers end with it; its folder goes, if it can."""
    # A shell lets what it runs in the background ignore SIGINT, and that is inherited.
    listening = ["env", "--default-signal=INT"]
    with subprocess.Popen(
        [*listening, *command("--nodes", 1, "--keys", 100_000)],
        env={**os.environ, "TMPDIR": readable},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            while b"haproxy" not in running(readable):
                # Asking without a pause would take the time of those who start.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
                    pytest.fail(str(process.communicate()))
            assert b"mariadbd" in running(readable)
            process.send_signal(how)
            _, complaints = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert b"Traceback" not in complaints
    while running(readable):
        pass  # Until the test's time is over.
    if how == signal.SIGINT:
        assert [*Path(readable).iterdir()] == []


def test_the_check_sees_what_is_wrong(example: dict[str, Any]) -> None:
    """A row that is missing, or other than on another node, or created twice."""
    judge, rows, ack = (example[name] for name in ("judge", "Rows", "Ack"))
    tag = ack("tag", "a", "0.0", 1, is_created=True)
    place = ack("place", "b", "0.0", 2, is_created=True)
    right = rows({"a": 1}, {"b": 2}, {(1, "0.0")})
    assert judge([tag, place], [right, right], 1).is_right
    for wrong in (
        rows({}, {"b": 2}, {(1, "0.0")}),
        rows({"a": 3}, {"b": 2}, {(1, "0.0")}),
        rows({"a": 1}, {"b": 2}, set()),
    ):
        assert judge([tag, place], [right, wrong], 1).missing == 1
        assert not judge([tag, place], [wrong, wrong], 1).is_right
    assert judge([tag, place, tag], [right], 1).created_twice == 1
    assert not judge([], [right], 2).is_right
