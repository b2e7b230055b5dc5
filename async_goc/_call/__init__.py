"""How a call behaves, and how it reports what it did.

`policy` is the caller's choice as one value, `events` is what an observer is told, and
`session` keeps a second task out of a session that a call is using.
"""

from .events import Call, Event, Observer, Outcome, Stats
from .policy import DEFAULT_POLICY, Hold, Policy, Strategy, check_policy
from .session import alone, note_owner, owners_around, resolve

__all__ = [
    "DEFAULT_POLICY",
    "Call",
    "Event",
    "Hold",
    "Observer",
    "Outcome",
    "Policy",
    "Stats",
    "Strategy",
    "alone",
    "check_policy",
    "note_owner",
    "owners_around",
    "resolve",
]
