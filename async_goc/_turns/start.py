"""Say how far a call comes before its objects are made."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any, Generic, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from .._call import Policy, routes
from .._databases import connections_of
from .._lookup import Plan
from .._models import T, level_on_connect
from .key import Key, known_key_of


class Start(NamedTuple, Generic[T]):
    """What is known of a call by plain values, in a session that does not queue yet."""

    plan: Plan[T]
    # The key of the row, if it has been needed.
    key: Key | None
    # When the look begins; None: the call does not look yet.
    looked: float | None

    @property
    def has_begun(self) -> bool:
        """Whether it is known by now if the call queues before it looks."""
        return self.key is not None or self.looked is not None


def start(
    session: Session, plan: Plan[T], values: Mapping[str, Any], policy: Policy
) -> Start[T]:
    """Say whether the call may look for its row at once."""
    # One that waits without a connection leaves it to others.
    if policy.locks is None or connections_of(session):
        return Start(plan, None, perf_counter())
    key = _early_key(session, plan, values, policy)
    is_known = key is not None and policy.locks.queues().memory.exists(key)
    return Start(plan, key, perf_counter() if is_known else None)


def _early_key(
    session: Session, plan: Plan[Any], values: Mapping[str, Any], policy: Policy
) -> Key | None:
    """Return the key, if nothing decides it but the values and the session's engine."""
    bind = None if routes(session) else session.bind
    if not isinstance(bind, Engine):
        return None
    # They may be of any kind, such as AUTOCOMMIT, which is refused where it does harm.
    has_options = bind.get_execution_options() or level_on_connect(bind.dialect)
    # Since SQLAlchemy 2.1, a session has options that it gives to its connections.
    if has_options or getattr(session, "execution_options", None):
        return None
    return known_key_of(plan, values, bind.dialect, policy.namespace)
