"""What tests of a program need that calls get_or_create.

It works with pytest-asyncio, with the plugin of anyio, and without either.

`rolled_back` gives sessions whose work is undone at the end of a test. `race` starts
calls together, and `rival` lets a call lose a race, each time. `record` tells what the
calls did, and `assert_nothing_held` that none of them has left a transaction open.
"""

from .nothing_held import assert_nothing_held
from .racing import race
from .recording import record
from .rivals import rival
from .undoing import rolled_back

__all__ = ["assert_nothing_held", "race", "record", "rival", "rolled_back"]
