"""How a call behaves, as one value."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from .._locks import KeyedLocks
from .events import Observer

Strategy = Literal["savepoint", "native"]
Hold = Literal["transaction", "call"]
MissingConstraint = Literal["warn", "error", "ignore"]

# All that it does, it does in a running event loop.
_PROCESS_WIDE: Final = KeyedLocks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a call behaves; vary one with :func:`dataclasses.replace`.

    Attributes:
        strategy: How to insert: ``"savepoint"``, by the unit of work and inside a
            SAVEPOINT; or ``"native"``, by one statement that skips conflicts (on
            PostgreSQL and SQLite), where the row can do without the unit of work.
            Native, an error other than a lost race ends a PostgreSQL transaction.
        attempts: How often to try to insert, the first time included, when the rival's
            row vanishes again each time; then
            :exc:`~async_goc.exceptions.ContentionError`. An attempt ends with an INSERT
            that succeeds, or says what it conflicts with. A native INSERT that is
            skipped says nothing; if no row is found then, the same attempt goes on with
            one inside a SAVEPOINT. As often, a row is found that is deleted before it
            has been read or changed.
        locks: The registry in which calls for the same row queue, so that duplicates
            in this process cost one INSERT; by default one for the whole process.
            ``None``: they meet in the database only.
        hold: How long a call that has created the row keeps the others waiting:
            until its ``"transaction"`` ends, or only for the ``"call"``.
        wait_timeout: Seconds to queue in this process before asking the database
            all the same; ``None``: no limit, so that a transaction which never ends
            blocks the others for ever.
        missing_constraint: What to do when no unique constraint covers the
            lookup, or the lookup contains NULL: ``"warn"`` on a miss, and on the first
            hit of each set of names, once per model and lookup, ``"error"`` before any
            SQL, or ``"ignore"``.
        namespace: Keeps apart, in the queues, what the engine cannot: tenants that
            differ by ``search_path``, say. Any hashable value.
        observer: Called with one :class:`~async_goc.Event` per call.

    Raises:
        ValueError: A value is out of its range.
        TypeError: A value is of the wrong type.
    """

    strategy: Strategy = "savepoint"
    attempts: int = 3
    locks: KeyedLocks | None = _PROCESS_WIDE
    hold: Hold = "transaction"
    wait_timeout: float | None = 1.0
    missing_constraint: MissingConstraint = "warn"
    namespace: Hashable = None
    observer: Observer | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1:
            msg = f"attempts is {self.attempts}; it counts INSERTs, so give at least 1"
            raise ValueError(msg)
        if self.wait_timeout is not None and not self.wait_timeout >= 0:
            msg = (
                f"wait_timeout is {self.wait_timeout}; give seconds, 0 or more, "
                "or None for no limit"
            )
            raise ValueError(msg)
        _check_choice("strategy", self.strategy, Strategy)
        _check_choice("hold", self.hold, Hold)
        _check_choice("missing_constraint", self.missing_constraint, MissingConstraint)
        _check_locks(self.locks)
        try:
            hash(self.namespace)
        except TypeError:
            kind = type(self.namespace).__name__
            msg = f"namespace is of type {kind}, without a hash; give a hashable value"
            raise TypeError(msg) from None


def _check_locks(locks: object) -> None:
    if locks is not None and not isinstance(locks, KeyedLocks):
        kind = type(locks).__name__
        msg = f"locks is of type {kind}; give KeyedLocks(), or None for no registry"
        raise TypeError(msg)


def _check_choice(name: str, value: object, choices: Any) -> None:
    *most, last = map(repr, get_args(choices))
    if value not in get_args(choices):
        msg = f"{name} is {value!r}; give {', '.join(most)} or {last}"
        raise ValueError(msg)


DEFAULT_POLICY: Final = Policy()
