"""How a call behaves, and how it reports what it did.

`policy` is the caller's choice as one value, `events` is what an observer is told, and
`call` is what every verb opens first: it carries the session, the policy and the report
through all rooms, and keeps a second task out of the session. `routing` sends what must
not lag to where the session writes.
"""

# pyright: reportUnusedImport=false

from .call import Call, check_loop, check_policy, policy_of
from .events import Event, Observer, Outcome, Stats, tell
from .policy import DEFAULT_POLICY, Hold, Policy, Strategy, check_number, check_type
from .routing import routes, writer_of
