"""Make the key of a row before anything else is made for the call."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from .._call import Policy, routes
from .._lookup import Plan
from .._models import level_on_connect
from .key import Key, known_key_of


def early_key(
    session: Session, plan: Plan[Any], values: Mapping[str, Any], policy: Policy
) -> Key | None:
    """Return the key, if nothing decides it but the values and the session's engine."""
    # There may be another one for the model.
    has_engine = isinstance(session.bind, Engine) and not routes(session)
    bind = session.get_bind(plan.mapper) if has_engine else None
    if not isinstance(bind, Engine):
        return None
    # They may be of any kind, such as AUTOCOMMIT, which is refused where it does harm.
    has_options = bind.get_execution_options() or level_on_connect(bind.dialect)
    # Since SQLAlchemy 2.1, a session has options that it gives to its connections.
    if has_options or getattr(session, "execution_options", None):
        return None
    return known_key_of(plan, values, bind.dialect, policy.namespace)
