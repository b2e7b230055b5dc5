"""Keyed locks in plain asyncio: which owner holds a key, and which wait for it.

This room knows nothing of SQLAlchemy, nor of what a key stands for. It is an adviser:
the unique constraint in the database is the judge. So whatever goes wrong here (a wait
reaches its limit, owners wait for each other, one dies) ends as if there were no locks.

Read `owner` (what may hold a key), `line` (what waits for it) and `memory` (which keys
were released), then `queues` (those of one event loop), with `waits` and `sweeper` (the
waits that would not end) and `home` (how other threads reach them), and `registry` (all
of them, under the public name). `statistics` is what they count.
"""

# pyright: reportUnusedImport=false

from .home import HomeLoop
from .owner import Answer, Owner
from .queues import Queues
from .registry import DEFAULT_LOCKS, KeyedLocks, all_statistics, held_keys
from .statistics import LockStatistics
