"""Tell for which calls a hit needs no more than its SELECT."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from ._call import Policy, check_loop, listener, policy_of
from ._databases import connections_of
from ._lookup import Plan, known_plan
from ._models import T
from ._new_row import has_no_say
from ._turns import Key, early_key

# Most calls find their row by plain values, and a hit needs little of the objects that
# take a call through the rooms: making them took a tenth of the time. So such a row is
# looked for without them. What is less plain, or not there, goes the general way, which
# does not look a second time.

# What is known of such a call: its plan; and the row's key, if it has to queue for
# that, or else when its look begins.
Start = tuple[Plan[T] | None, Key | None, float | None]
NO_START: Final = (None, None, None)


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
    if not isinstance(policy, Policy):
        return NO_START
    own = session.sync_session
    # Listeners may change what is looked for, and an observer is told of each call.
    is_plain = (
        listener(policy.observer) is None
        and not policy.advisory_lock
        and (defaults is None or has_no_say(plan, defaults))
        # (A sharded session listens as well.)
        and not own.dispatch.do_orm_execute
    )
    if not is_plain:
        return NO_START
    if policy.locks is None or connections_of(own):
        return plan, None, perf_counter()
    # One that waits without a connection leaves it to others.
    key = early_key(own, plan, values, policy)
    is_known = key is not None and policy.locks.queues().memory.exists(key)
    # What the look begins may decide the key, and is not known by now.
    return (plan, None, perf_counter()) if is_known else (plan, key, None)
