"""Report a lookup whose row the database would accept twice."""

from typing import Any, Final

from .._call import Call
from .._databases import facts_of
from .._models import is_covered
from .._warn import warn_caller
from ..exceptions import MissingConstraintError, MissingConstraintWarning
from .lookup import Lookup

# A plan remembers the lookups it has warned about. Criteria may differ in each call,
# so it remembers this many, and then falls silent.
_MOST_WARNINGS: Final = 100


def require_cover(call: Call, lookup: Lookup[Any]) -> None:
    """Refuse a lookup that no unique constraint covers, if the policy says so.

    And refuse to lock its key, where the database has no such lock.
    """
    if call.policy.advisory_lock:
        _require_advisory_lock(call, lookup)
    if call.policy.missing_constraint == "error" and not _is_covered(call, lookup):
        raise MissingConstraintError(lookup.plan.model, lookup.names)


def _require_advisory_lock(call: Call, lookup: Lookup[Any]) -> None:
    dialect = call.session.sync_session.get_bind(lookup.plan.mapper).dialect
    if facts_of(dialect).lock_keys is None:
        msg = (
            f"Policy.advisory_lock is set, and {dialect.name} has no lock on a key "
            "that lasts as long as a transaction; leave it out, and add a unique "
            f"constraint to {lookup.plan.model.__name__}"
        )
        raise ValueError(msg)


def warn_if_not_covered(call: Call, lookup: Lookup[Any]) -> None:
    """Warn, once, of a lookup that no unique constraint covers."""
    plan = lookup.plan
    policy = call.policy
    if plan.is_covered or policy.missing_constraint != "warn" or policy.advisory_lock:
        return
    names = lookup.names
    # Criteria may be of any length, and names in any order.
    mark = hash(frozenset(names))
    is_new = mark not in plan.warned and len(plan.warned) < _MOST_WARNINGS
    if is_new and not _is_covered(call, lookup):
        plan.warned.add(mark)
        warn_caller(MissingConstraintWarning(plan.model, names))


def warn_on_hit(call: Call, lookup: Lookup[Any]) -> None:
    """Warn on a plan's first hit, too; the later ones only see that it was judged."""
    # Development data is often there already, so that a miss may come in production
    # first. To write criteria out takes too long for every hit.
    if call.policy.missing_constraint == "warn":
        lookup.plan.unjudged.clear()
        warn_if_not_covered(call, lookup)


def _is_covered(call: Call, lookup: Lookup[Any]) -> bool:
    plan = lookup.plan
    # The plan knows only of constraints that hold on every database, and nothing of
    # criteria.
    dialect = call.session.sync_session.get_bind(plan.mapper).dialect
    return plan.is_covered or is_covered(plan.mapper, lookup.conditions(), dialect)
