"""What a program is warned of once."""

from .documented import Documented
from .errors import MissingConstraint


class AsyncGocWarning(Documented, UserWarning):
    """Base class of this library's warnings, and of no others."""


class MissingConstraintWarning(MissingConstraint, AsyncGocWarning):
    """No unique constraint covers the lookup: duplicates are possible.

    Attributes:
        model: The mapped class.
        lookup: The names looked up.
    """


class SqliteTransactionWarning(AsyncGocWarning):
    """This SQLite engine cannot keep the library's promises.

    Attributes:
        reason: What is wrong with the engine.
        remedy: What to do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason, remedy)

    def _message(self) -> str:
        return f"{self.reason}; {self.remedy}"
