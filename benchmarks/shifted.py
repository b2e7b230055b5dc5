"""Run a script where its objects lie elsewhere in memory than they would.

python benchmarks/shifted.py SEED SCRIPT ARGUMENT ...
"""

import runpy
import sys
from random import Random

if __name__ == "__main__":
    del sys.argv[0]
    random = Random(sys.argv.pop(0))  # noqa: S311
    # Of each size that the interpreter keeps a pool of.
    kept = [
        bytes(size) for size in range(0, 512, 16) for _ in range(random.randrange(64))
    ]
    # It numbers types as their attributes are looked up, and caches these by the number
    # and by where the name lies.
    kinds = [type(f"Kind{number}", (), {}) for number in range(random.randrange(1000))]
    modules = [kind.__module__ for kind in kinds]
    runpy.run_path(sys.argv[0], run_name="__main__")
