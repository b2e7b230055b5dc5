"""Run the tests in two processes, each with one half of the folders.

It is for runs under coverage: traced in pytest-xdist's workers, CPython has been seen
to hang.

Usage: python tests/side_by_side.py COMMAND [ARGUMENT ...]
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
# These take as long as all the others together.
FIRST = {"call", "databases", "many", "new_row", "project", "testing", "verbs"}
NO_TESTS = 5  # pytest's code, for a half from which nothing was selected


def halves() -> tuple[list[Path], list[Path]]:
    """Every folder that has tests is in one of the two."""
    folders = sorted({path.parent for path in HERE.glob("*/test_*.py")})
    first = [folder for folder in folders if folder.name in FIRST]
    return first, [folder for folder in folders if folder not in first]


def main(command: Sequence[str]) -> int:
    """Show what both print, one after the other; return 0 if both have passed."""
    one, other = ([*command, *half] for half in halves())
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(other, stdout=log, stderr=log) as process:
            codes = {subprocess.call(one), process.wait()}
        log.seek(0)
        sys.stdout.buffer.write(log.read())
    return 0 if 0 in codes <= {0, NO_TESTS} else max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
