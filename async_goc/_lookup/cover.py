"""Say that the database would accept the looked-up row twice."""

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from .._call import Call
from .._databases import dialect_of
from .._models import is_covered
from .._warn import warn_caller
from ..exceptions import MissingConstraintError, MissingConstraintWarning
from .lookup import Lookup

# So many lookups of one plan are warned about; SQL criteria may be without number.
_MOST_WARNINGS: Final = 100


def require_cover(call: Call, lookup: Lookup[Any]) -> None:
    """Refuse a lookup whose row the database would accept twice, if the policy does."""
    is_wanted = call.policy.missing_constraint == "error"
    if is_wanted and not _is_covered(call.session, lookup):
        raise MissingConstraintError(lookup.plan.model, lookup.names)


def warn_if_not_covered(call: Call, lookup: Lookup[Any]) -> None:
    """Warn, once, that the database would accept the looked-up row twice."""
    warned = lookup.plan.warned
    is_wanted = (
        call.policy.missing_constraint == "warn" and len(warned) < _MOST_WARNINGS
    )
    if lookup.plan.is_covered or not is_wanted:
        return
    names = lookup.names
    if names not in warned and not _is_covered(call.session, lookup):
        warned.add(names)
        warn_caller(MissingConstraintWarning(lookup.plan.model, names))


def _is_covered(session: AsyncSession, lookup: Lookup[Any]) -> bool:
    plan = lookup.plan
    if plan.is_covered:
        return True
    dialect = dialect_of(session, plan.mapper)
    return is_covered(plan.mapper, lookup.conditions(), dialect)
