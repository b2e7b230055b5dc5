"""How a call behaves, and how it reports what it did.

`policy` is the caller's choice as one value, `events` is what an observer is told, and
`session` keeps a second task out of a session that a call is using.
"""

# pyright: reportUnusedImport=false

from .call import Call
from .events import Event, Observer, Outcome, Stats
from .policy import DEFAULT_POLICY, Hold, Policy, Strategy
