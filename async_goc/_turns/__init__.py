"""Whose turn it is to insert a missing row.

`key` says where equal lookups of this process meet (and `freeze` which values are
equal), `ownership` which transaction holds a key however it ends, and `turn` takes one
call through the queue.
"""

from .freeze import PLAIN, Freeze, freezer
from .key import Key, keys_of
from .ownership import owner_of
from .turn import Turn, wait

__all__ = ["PLAIN", "Freeze", "Key", "Turn", "freezer", "keys_of", "owner_of", "wait"]
