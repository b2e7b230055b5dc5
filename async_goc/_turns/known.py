"""Tell, before anything is made for a call, whether its row has been there."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from .._call import Policy, routes
from .._lookup import Plan
from .._models import level_on_connect
from .key import known_key_of


def is_known(
    session: Session, plan: Plan[Any], values: Mapping[str, Any], policy: Policy
) -> bool:
    """Whether no call has to queue for the row, because it has been there."""
    if policy.locks is None:
        return True
    bind = None if routes(session) else session.bind
    if not isinstance(bind, Engine):
        return False
    # They may be of any kind, such as AUTOCOMMIT, which is refused where it does harm.
    has_options = bind.get_execution_options() or level_on_connect(bind.dialect)
    # Since SQLAlchemy 2.1, a session has options that it gives to its connections.
    if has_options or getattr(session, "execution_options", None):
        return False
    key = known_key_of(plan, values, bind.dialect, policy.namespace)
    return key is not None and policy.locks.queues().memory.exists(key)
