"""How a call behaves, and how it reports what it did.

`policy` is the caller's choice as one value, `events` is what an observer is told, and
`observers` makes one of several. `report` tells it when a call begins and ends, and
`call` is what every verb opens first: it carries the session, the policy and the report
through all rooms. `claim` keeps a second task out of the session, and `routing` sends
what must not lag to where the session writes.
"""

# pyright: reportUnusedImport=false

from .call import (
    Call,
    check_loop,
    check_policy,
    policy_of,
)
from .claim import claim_for_look, claim_session, leave_session
from .events import Event, Observer, Outcome, Stats, tell
from .observers import Relay, everywhere, listener, observers
from .policy import DEFAULT_POLICY, Hold, Policy, Strategy, check_number, check_type
from .report import Report, open_report
from .routing import database_of, routes, writer_of
