"""Whose turn it is to insert a missing row.

`key` says where equal lookups of this process meet (and `freeze` which values are
equal, and what is kept of them), `ownership` which transaction holds a key however it
ends, and `turn` takes one call through the queue. `start` says which calls need not
queue to look. `advisory` locks keys in the database, for all processes.
"""

# pyright: reportUnusedImport=false

from .freeze import PLAIN, Freeze, freezer, is_coarse
from .key import Key, models_of
from .start import Start, start
from .turn import Turn
