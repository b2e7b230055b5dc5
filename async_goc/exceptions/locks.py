"""What a call raises because of a lock that it asked for."""

from collections.abc import Sequence

from .errors import AsyncGocError


class RivalTimeoutError(AsyncGocError, TimeoutError):
    """The database has waited ``Policy.lock_timeout`` for another transaction, in vain.

    Only what the call has done is undone: the caller's transaction goes on. The cause
    is the database's error.

    Attributes:
        model: The mapped class.
        lookup: The names looked up.
        lock_timeout: The policy's limit, in seconds.
    """

    def __init__(
        self, model: type[object], lookup: Sequence[str], lock_timeout: float
    ) -> None:
        self.model = model
        self.lookup: tuple[str, ...] = tuple(lookup)
        self.lock_timeout = lock_timeout
        super().__init__(model, self.lookup, lock_timeout)

    def _message(self) -> str:
        return (
            f"for Policy.lock_timeout ({self.lock_timeout:g} s), another transaction "
            f"has held what the call for {self.model.__name__} needs, such as a row of "
            "its own with that key, which it has not committed; this transaction is as "
            "it was before the call, so go on without the row, try again later, or "
            "raise the limit"
        )


class IsolationError(AsyncGocError):
    """``Policy.advisory_lock`` needs READ COMMITTED, and the transaction is above it.

    Its snapshot would not show what a rival has committed while it waited for the lock,
    and the row would be inserted twice. Nothing has been inserted.

    Attributes:
        model: The mapped class.
        lookup: The names looked up.
        level: The transaction's isolation level.
    """

    def __init__(self, model: type[object], lookup: Sequence[str], level: str) -> None:
        self.model = model
        self.lookup: tuple[str, ...] = tuple(lookup)
        self.level = level
        super().__init__(model, self.lookup, level)

    def _message(self) -> str:
        return (
            f"the transaction is {self.level.upper()}, whose snapshot may not show the "
            f"{self.model.__name__} of a rival that has held the lock before, so "
            "Policy.advisory_lock could not prevent duplicates; use READ COMMITTED, or "
            "a unique constraint without advisory_lock"
        )
