"""Say what went wrong, and what to do about it.

* AsyncGocError
  * UnknownFieldError       (also a ValueError)
  * ContradictionError      (also a ValueError)
  * MissingConstraintError
  * SnapshotConflictError
  * ContentionError
  * RivalTimeoutError       (also a TimeoutError)
  * IsolationError
  * OutcomeUnknownError
* AsyncGocWarning           (a UserWarning)
  * MissingConstraintWarning
  * SqliteTransactionWarning

Any other error of the database passes through unchanged.
"""

from .errors import (
    AsyncGocError,
    ContentionError,
    ContradictionError,
    MissingConstraintError,
    OutcomeUnknownError,
    SnapshotConflictError,
    UnknownFieldError,
)
from .locks import IsolationError, RivalTimeoutError
from .warnings import (
    AsyncGocWarning,
    MissingConstraintWarning,
    SqliteTransactionWarning,
)

__all__ = [
    "AsyncGocError",
    "AsyncGocWarning",
    "ContentionError",
    "ContradictionError",
    "IsolationError",
    "MissingConstraintError",
    "MissingConstraintWarning",
    "OutcomeUnknownError",
    "RivalTimeoutError",
    "SnapshotConflictError",
    "SqliteTransactionWarning",
    "UnknownFieldError",
]
