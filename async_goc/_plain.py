"""Tell for which calls a hit needs no more than its SELECT."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from ._call import Policy, check_loop, listener, policy_of
from ._databases import connections_of
from ._lookup import Plan, known_plan, look_plainly
from ._models import T
from ._new_row import has_no_say
from ._turns import EarlyTurn, early_key

# Most calls find their row by plain values, and a hit needs little of the objects that
# take a call through the rooms: making them took a tenth of the time. So such a row is
# looked for without them. What is less plain, or not there, goes the general way, which
# does not look a second time.

# What is known of such a call: its plan; what looks for the row, if it need not wait;
# the turn that it takes, or waits for; and when its look begins.
Look = Callable[[Any, Plan[T], Mapping[str, Any]], T | None]
Start = tuple[Plan[T] | None, Look[T] | None, EarlyTurn | None, float | None]
NO_START: Final = (None, None, None, None)


def plain_start(
    session: AsyncSession,
    model: type[T],
    values: Mapping[str, Any],
    defaults: object,
    policy: object,
) -> Start[T]:
    """Return the start of a call whose hit needs no more than its SELECT."""
    plan = known_plan(model, values)
    if plan is None or plan.plain_binds is None:
        return NO_START
    check_loop()
    if policy is None:
        policy = policy_of(session)
    own = session.sync_session
    # Listeners may change what is looked for, and an observer is told of each call.
    if not (
        isinstance(policy, Policy)
        and listener(policy.observer) is None
        and not policy.advisory_lock
        and (defaults is None or has_no_say(plan, defaults))
        # (A sharded session listens as well.)
        and not own.dispatch.do_orm_execute
    ):
        return NO_START
    if policy.locks is None or connections_of(own):
        return plan, look_plainly, None, perf_counter()
    key = early_key(own, plan, values, policy)
    if key is None:
        return plan, None, None, None
    queues = policy.locks.queues()
    if queues.memory.exists(key):
        # What the look begins may decide the key, and is not known by now.
        return plan, look_plainly, None, perf_counter()
    # A call that has to wait for its turn leaves a connection to others meanwhile.
    turn = EarlyTurn(own, queues, key)
    look = turn.look if queues.take_free(key, turn) else None
    return plan, look, turn, None if look is None else perf_counter()
