"""Take a turn before anything else is made for the call."""

from asyncio import current_task
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from .._call import Policy, routes
from .._databases import options_of
from .._locks import Answer, Queues
from .._lookup import Plan, look_plainly
from .._models import T
from .key import Key, Values, known_key_of
from .session_owner import SessionOwner


def early_key(
    session: Session, plan: Plan[Any], values: Values, policy: Policy
) -> Key | None:
    """Return the key, if nothing decides it but the values and the session's engine."""
    varies = session.bind is None or routes(session)
    bind = None if varies else session.get_bind(plan.mapper)
    if not isinstance(bind, Engine):
        return None
    # They may be of any kind, such as AUTOCOMMIT, which is refused where it does harm.
    if bind.get_execution_options() or options_of(session):
        return None
    return known_key_of(plan, values, bind.dialect, policy.namespace)


class EarlyTurn(SessionOwner):
    """A turn that is taken before the look, and ends with it unless there is no row.

    Then the call's own turn takes over.
    """

    def __init__(self, session: Session, queues: Queues, key: Key) -> None:
        super().__init__(session)
        self.key = key
        self.queues = queues

    @property
    def is_held(self) -> bool:
        """Whether the key is this turn's, and no higher rank has taken it."""
        return self.key in self.keys

    def look(self, session: Session, plan: Plan[T], values: Values) -> T | None:
        """Return the row that matches plain values, if there is one."""
        self.task = current_task()
        found = look_plainly(session, plan, values)
        if found is not None:
            self.queues.release(self.key, self, Answer.FOUND)
        return found

    def give_up(self, error: BaseException) -> None:
        """Release the key, unless the call's own turn has it by now."""
        self.queues.home.run_after(error, self.queues.release, self.key, self)
