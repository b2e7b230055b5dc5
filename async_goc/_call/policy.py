"""How a call behaves, as one value."""

import sys
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from .._locks import DEFAULT_LOCKS, KeyedLocks
from .events import Observer

Strategy = Literal["savepoint", "native"]
Hold = Literal["transaction", "call"]
MissingConstraint = Literal["warn", "error", "ignore"]

_ATTEMPTS: Final = "a whole number, at least 1"
_SECONDS: Final = "seconds, 0 or more, or None for no limit"
_LIMIT: Final = "seconds, 0 or more, or None to leave it to the database"
_BOOLEAN: Final = "True or False"
_REGISTRY: Final = "KeyedLocks(), or None for no registry"
OBSERVER: Final = "a callable that takes an Event"
_OBSERVER: Final = f"{OBSERVER}, or None for no observer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a call behaves; vary one with :func:`dataclasses.replace`.

    A call without a policy of its own takes its session's, which an application sets
    once: ``async_sessionmaker(engine, info={"async_goc.policy": Policy(...)})``; and if
    there is none, :data:`DEFAULT_POLICY`.

    A policy can be copied, and pickled if its observer can; its registry then becomes
    the receiving process's (see :class:`KeyedLocks`).

    Attributes:
        strategy: How to insert: ``"savepoint"``, by the unit of work and inside a
            SAVEPOINT; or ``"native"``, by one statement without a SAVEPOINT (on
            PostgreSQL, SQLite and MariaDB), where the row can do without the unit of
            work. Native, an error other than a lost race ends a PostgreSQL transaction.
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
        wait_timeout: Seconds that one holder may keep a row's key while other calls of
            this process queue for it. Then the first in the queue asks the database all
            the same, and the others go on waiting, for whichever of the two ends first.
            It starts anew when the key passes on. ``None``: no limit, so that a
            transaction which never ends blocks the others for ever. On PostgreSQL, the
            INSERT of a :class:`GetOrCreator` waits as long for a rival's row before a
            session is asked, which waits on.
        lock_timeout: Seconds that the database may wait for what a rival has not
            committed: each time the call inserts, updates or locks the row. Then
            :exc:`~async_goc.exceptions.RivalTimeoutError`, and the caller's transaction
            goes on, with either strategy (native falls back to a SAVEPOINT). The
            caller's own setting is what it was afterwards. A miss takes two round trips
            more, and on PostgreSQL a locking lookup (:func:`update_or_create`,
            ``with_for_update``) four. MariaDB and MySQL count whole seconds, so the
            limit is rounded up there, to one at least. It has no effect on SQLite,
            where ``busy_timeout`` says how long to wait for the one writer. ``None``:
            the caller's own setting decides.
        advisory_lock: After a miss, take a lock on what is looked up, which other
            transactions that do so wait for (PostgreSQL's ``pg_advisory_xact_lock``),
            and look again before inserting. So there are no duplicates even where no
            unique constraint covers the lookup; but only among calls that have this
            set, and look up by the same names of the same model. It needs READ
            COMMITTED: above, :exc:`~async_goc.exceptions.IsolationError` is raised
            before any INSERT. Each missing row takes a place in the server's table of
            locks (``max_locks_per_transaction``), until the transaction ends.
        missing_constraint: What to do when no unique constraint covers the
            lookup, or the lookup contains NULL: ``"warn"`` on a miss, and on the first
            hit of each set of names, once per model and lookup, ``"error"`` before any
            SQL, or ``"ignore"``. With *advisory_lock*, nothing is warned of.
        namespace: Keeps apart, in the queues and among calls that share an answer, what
            the engine cannot: tenants that differ by ``search_path``, say. Any hashable
            value. Such calls are not asked for in batches.
        observer: Called with one :class:`~async_goc.Event` per call; :func:`observers`
            makes one of several.

    Raises:
        ValueError: A value is out of its range.
        TypeError: A value is of the wrong type.
    """

    strategy: Strategy = "savepoint"
    attempts: int = 3
    locks: KeyedLocks | None = DEFAULT_LOCKS
    hold: Hold = "transaction"
    wait_timeout: float | None = 1.0
    lock_timeout: float | None = None
    advisory_lock: bool = False
    missing_constraint: MissingConstraint = "warn"
    namespace: Hashable = None
    observer: Observer | None = None

    def __post_init__(self) -> None:
        check_number("attempts", self.attempts, int, 1, _ATTEMPTS)
        if self.wait_timeout is not None:
            check_number("wait_timeout", self.wait_timeout, (int, float), 0, _SECONDS)
        if self.lock_timeout is not None:
            check_number("lock_timeout", self.lock_timeout, (int, float), 0, _LIMIT)
        is_boolean = _is_boolean(self.advisory_lock)
        check_type("advisory_lock", self.advisory_lock, is_boolean, _BOOLEAN)
        _check_choice("strategy", self.strategy, Strategy)
        _check_choice("hold", self.hold, Hold)
        _check_choice("missing_constraint", self.missing_constraint, MissingConstraint)
        check_type("locks", self.locks, _is_registry(self.locks), _REGISTRY)
        is_observer = self.observer is None or callable(self.observer)
        check_type("observer", self.observer, is_observer, _OBSERVER)
        has_hash = _is_hashable(self.namespace)
        check_type("namespace", self.namespace, has_hash, "a hashable value")


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_registry(value: object) -> bool:
    return value is None or isinstance(value, KeyedLocks)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:  # A tuple, say, is as hashable as what is in it.
        return False
    return True


def check_type(name: str, value: object, is_right: object, wanted: str) -> None:
    if not is_right:
        msg = f"{name} is of type {type(value).__name__}; give {wanted}"
        raise TypeError(msg)


def check_number(name: str, value: Any, kind: Any, least: int, wanted: str) -> None:
    # True is an int, and was meant for something else.
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    check_type(name, value, is_number, wanted)
    # NaN is neither less nor more; and no clock takes what no float can be.
    is_huge = isinstance(value, int) and value > sys.float_info.max
    if is_huge or not value >= least:
        msg = f"{name} is {value!r}; give {wanted}"
        raise ValueError(msg)


def _check_choice(name: str, value: object, choices: Any) -> None:
    *most, last = map(repr, get_args(choices))
    if value not in get_args(choices):
        msg = f"{name} is {value!r}; give {', '.join(most)} or {last}"
        raise ValueError(msg)


DEFAULT_POLICY: Final = Policy()
