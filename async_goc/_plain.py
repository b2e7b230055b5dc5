"""Tell for which calls a hit needs no more than its SELECT."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from ._call import Policy, check_loop, listener, policy_of
from ._lookup import known_plan
from ._models import T
from ._new_row import has_no_say
from ._turns import Start, start

# Most calls find their row by plain values, and a hit needs little of the objects that
# take a call through the rooms: making them took a tenth of the time. So such a row is
# looked for without them. What is less plain, or not there, goes the general way, which
# does not look a second time.


def plain_start(
    session: AsyncSession,
    model: type[T],
    values: Mapping[str, Any],
    defaults: object,
    policy: object,
) -> Start[T] | None:
    """Return the start of a call whose hit needs no more than its SELECT."""
    plan = known_plan(model, values)
    if plan is None or plan.plain_binds is None:
        return None
    check_loop()
    if policy is None:
        policy = policy_of(session)
    if not isinstance(policy, Policy):
        return None
    own = session.sync_session
    # Listeners may change what is looked for, and an observer is told of each call.
    is_plain = (
        listener(policy.observer) is None
        and not policy.advisory_lock
        and (defaults is None or has_no_say(plan, defaults))
        # (A sharded session listens as well.)
        and not own.dispatch.do_orm_execute
    )
    return start(own, plan, values, policy) if is_plain else None
