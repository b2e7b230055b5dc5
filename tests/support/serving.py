"""Start a server that an example is, and end it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMPLAINTS = (
    *("Traceback", "ERROR", "WARNING", "Warning"),
    *("never awaited", "wait_timeout"),
)


@contextmanager
def serving(
    *command: str | Path, awaited: str, times: int = 1, **settings: str
) -> Iterator[list[str]]:
    """Yield the log, as soon as *awaited* was so many times in it.

    Afterwards, the server must have ended as it should, and complained of nothing.
    """
    with subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            log: list[str] = []
            for line in server.stderr:
                log.append(line)
                if sum(awaited in each for each in log) == times:
                    break
            else:
                raise AssertionError("".join(log))
            yield log
            server.terminate()
            log += server.communicate(timeout=20)[1].splitlines(keepends=True)
        finally:
            server.kill()
    said = "".join(log)
    assert "Application shutdown complete" in said
    assert [word for word in COMPLAINTS if word in said] == [], said
