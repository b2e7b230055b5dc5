"""Call a coroutine function in several processes at once."""

import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from types import ModuleType
from typing import Any

# Forked workers have what their parent has imported, which takes a second.
CONTEXT = get_context("fork")


async def at_once(module: ModuleType, *calls: Sequence[Any]) -> list[Any]:
    """Call the module's ``main`` with each of the arguments, in a process for each.

    Returns:
        What the calls have returned, by way of JSON.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, module.__name__), stdin=pipe, stdout=pipe
    )
    out, _ = await process.communicate(json.dumps(calls).encode())
    assert process.returncode == 0
    results: list[Any] = json.loads(out)
    return results


def _begin(name: str, start: Any) -> None:
    global _main, _start
    _main, _start = importlib.import_module(name).main, start


def _call(arguments: list[Any]) -> Any:
    _start.wait()
    return asyncio.run(_main(*arguments))


def main(name: str) -> None:
    importlib.import_module(name)
    calls = json.load(sys.stdin)
    begin = (name, CONTEXT.Barrier(len(calls)))
    with CONTEXT.Pool(len(calls), _begin, begin) as pool:
        json.dump(pool.map(_call, calls, chunksize=1), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
