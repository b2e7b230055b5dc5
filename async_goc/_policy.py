"""How a call behaves, as one value."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from ._events import Observer

MissingConstraint = Literal["warn", "error", "ignore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a call behaves; vary one with :func:`dataclasses.replace`.

    Attributes:
        attempts: INSERTs tried, the first included, when the rival's row
            vanishes again each time; then
            :exc:`~async_goc.exceptions.ContentionError`.
        missing_constraint: What to do when no unique constraint covers the
            lookup, or the lookup contains NULL: ``"warn"`` on a miss, once per
            model and lookup, ``"error"`` before any SQL, or ``"ignore"``.
        observer: Called with one :class:`~async_goc.Event` per call.

    Raises:
        ValueError: A value is out of its range.
    """

    attempts: int = 3
    missing_constraint: MissingConstraint = "warn"
    observer: Observer | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            msg = f"attempts is {self.attempts}; it counts INSERTs, so give at least 1"
            raise ValueError(msg)
        if self.missing_constraint not in get_args(MissingConstraint):
            msg = (
                f"missing_constraint is {self.missing_constraint!r}; "
                "give 'warn', 'error' or 'ignore'"
            )
            raise ValueError(msg)


DEFAULT_POLICY: Final = Policy()


def check_policy(model: type[object], policy: object) -> None:
    """Refuse what is no policy, such as a value to look up a column by.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(policy, Policy):
        msg = (
            f"policy is {policy!r}; give a Policy. To look up a column of that name, "
            f"give {model.__name__}.policy == {policy!r} as a positional criterion"
        )
        raise TypeError(msg)
