"""What the registries are in a child process."""

import asyncio
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from owners import Holder

from async_goc import DEFAULT_POLICY, KeyedLocks, Policy


def in_child(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what *function* returns in a child that is started by that method."""
    context: Any = get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=_send, args=(there, function, arguments))
    with warnings.catch_warnings():
        # Whatever runs the tests may have threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    there.close()
    try:
        return here.recv() if here.poll(30) else None
    finally:
        child.kill()
        child.join()


def _send(pipe: Connection, function: Callable[..., Any], arguments: Any) -> None:
    pipe.send(function(*arguments))


def figures(locks: KeyedLocks) -> tuple[int, int, int, bool]:
    """Return what a registry holds, and whether a key can be had."""
    before = locks.statistics()

    async def take() -> bool:
        return locks.queues().take("k", Holder())

    return before.held, before.waiting, before.acquired, asyncio.run(take())


def registries(usual: Policy, own: Policy) -> tuple[bool, bool, int, Any]:
    """Return whether the registries are the process's default, and the other one's."""
    locks = own.locks
    assert locks is not None
    default = DEFAULT_POLICY.locks
    return usual.locks is default, locks is default, locks._known_keys, figures(locks)
