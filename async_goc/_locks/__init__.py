"""Keyed locks in plain asyncio: who holds a key, and who waits for it.

This room knows nothing of SQLAlchemy, nor of what a key stands for. It is an adviser:
the unique constraint in the database is the judge, so whatever goes wrong here ends as
if there were no locks at all. Read `owner` (who may hold a key) and `memory` (which
keys were released), then `queues` (one event loop's), then `registry` (all of them,
under the public name).
"""

# pyright: reportUnusedImport=false

from .owner import Answer, Owner
from .queues import Queues
from .registry import KeyedLocks, LockStatistics
