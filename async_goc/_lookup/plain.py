"""Look for a row by plain values, which takes none of what a miss needs."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from .._call import claim_for_look, leave_session
from .._databases import give_up
from .._models import T
from .lookup import only_one
from .plan import Plan


def look_plainly(
    session: Session, plan: Plan[T], values: Mapping[str, Any]
) -> T | None:
    """Return the row that matches plain values, if there is one."""
    binds: Any = plan.plain_binds
    params = {parameter: values[name] for parameter, name in binds}
    claim = claim_for_look(session)
    try:
        return only_one(session.execute(plan.statement, params), plan.model, values)
    except DBAPIError as error:
        give_up(session, error)
        raise
    finally:
        leave_session(session, claim)
