from collections.abc import AsyncIterator

import pytest

from async_goc._locks.queues import Queues
from async_goc._locks.registry import KeyedLocks


@pytest.fixture
async def queues() -> AsyncIterator[Queues]:
    """The running loop's queues; at the end, no waiter may be left in them."""
    queues = KeyedLocks().queues()
    yield queues
    assert queues.waiting == 0
