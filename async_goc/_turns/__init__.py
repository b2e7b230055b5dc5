"""Whose turn it is to insert a missing row.

`key` says where equal lookups of this process meet (and `freeze` which values are
equal, and what is kept of them), `ownership` which transaction holds a key however it
ends (it is a `session_owner`), and `turn` takes one call through the queue. `early`
takes a turn before the call's objects are made, for a look that finds most rows.
`advisory` locks keys in the database, for all processes.
"""

# pyright: reportUnusedImport=false

from .early import EarlyTurn, early_key
from .freeze import PLAIN, Freeze, freezer, is_coarse
from .key import Key, models_of, names_of
from .turn import Turn
