"""Tell for which calls a hit needs no more than its SELECT."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from ._call import Policy, check_loop, listener, policy_of
from ._databases import connections_of
from ._lookup import Plan, known_plan
from ._models import T
from ._new_row import has_no_say
from ._turns import is_known

# Most calls find their row by plain values, and a hit needs little of the objects that
# take a call through the rooms: making them took a tenth of the time. So such a row is
# looked for without them. What is less plain, or not there, goes the general way, which
# does not look a second time.


def plain_plan(
    session: AsyncSession,
    model: type[T],
    values: Mapping[str, Any],
    defaults: object,
    policy: object,
) -> Plan[T] | None:
    """Return the plan by which a hit needs no more than its SELECT, if there is one."""
    plan = known_plan(model, values)
    if plan is None or plan.plain_binds is None:
        return None
    check_loop()
    if policy is None:
        policy = policy_of(session)
    own = session.sync_session
    # Listeners may change what is looked for, and an observer is told of each call.
    is_plain = (
        isinstance(policy, Policy)
        and listener(policy.observer) is None
        and not policy.advisory_lock
        and (defaults is None or has_no_say(plan, defaults))
        and not hasattr(own, "shard_chooser")
        and not own.dispatch.do_orm_execute
        and (connections_of(own) or is_known(own, plan, values, policy))
    )
    return plan if is_plain else None
