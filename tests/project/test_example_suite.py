"""The tests that users may copy pass, by each plugin and without a warning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

SUITE = Path(__file__).parents[2] / "examples" / "testing"
RUNS = [
    ("sqlite+aiosqlite", "pytest.ini"),
    ("postgresql+asyncpg", "anyio.ini"),
    ("mysql+asyncmy", "pytest.ini"),
]


@pytest.mark.parametrize(("backend", "settings"), RUNS, indirect=["backend"])
def test_example_suite(url: str, settings: str) -> None:
    """All of it runs: a coroutine that is never awaited would pass as well.

    The tables have other names than ours.
    """
    # Not the working tree but what is installed: -P. No files beside the examples.
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-c", SUITE / settings]
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-m", "pytest", *options, SUITE],
        env={**os.environ, "TEST_DATABASE_URL": url},
        capture_output=True,
        check=False,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("10 passed in"), done.stdout
