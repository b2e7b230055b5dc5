"""Each call in a transaction of its own.

`retry` runs a whole transaction again when the database asks for it. `commits` knows
how far it had come when it failed, which decides whether it may be run again, and
`closing` ends a session whatever happens meanwhile.
"""

# pyright: reportUnusedImport=false

from .retry import run, run_in_transaction
