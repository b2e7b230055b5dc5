"""Tell the rows apart that many calls ask for, and which call has created which."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Final

from .._databases import CANCELLED, NoAnswerError, NoConnectionError, SeveredError
from ..exceptions import OutcomeUnknownError
from .rows import Row

Values = Mapping[str, Any]
Answer = tuple[Row, bool] | OutcomeUnknownError | None

_INSERT: Final = "an INSERT"


class Ask:
    """What one call asks for."""

    __slots__ = ("context", "defaults", "lookup")

    def __init__(
        self, lookup: Values, defaults: Values | None, context: Context | None = None
    ) -> None:
        self.lookup = lookup
        # None: the row is not to be inserted.
        self.defaults = defaults
        # Where the call comes from: what makes a column's default may ask for that.
        self.context = context


class Sought:
    """A row that some calls ask for, and what has become of it."""

    # The first call that may insert the row.
    creator: int | None = None
    ask: Ask | None = None
    # What a new row gets.
    values: Values | None = None
    row: Row | None = None
    is_created: bool = False
    # Whether nothing more can be known of it here.
    is_lost: bool = False
    # What became of its INSERT, if nobody knows.
    error: OutcomeUnknownError | None = None
    # The primary keys that its INSERT has returned, of this row or of others that were
    # sent with it, and that have not been found yet.
    made: set[Any] | None = None

    def __init__(self, key: tuple[Any, ...]) -> None:
        # The values of the lookup.
        self.key = key
        # The places of the calls.
        self.places: list[int] = []

    def add(self, place: int, ask: Ask) -> None:
        """Note one more call."""
        self.places.append(place)
        if self.creator is None and ask.defaults is not None:
            self.creator, self.ask = place, ask

    @property
    def is_missing(self) -> bool:
        """Whether the row is to be inserted."""
        return self.row is None and self.creator is not None and not self.is_lost


def answers(count: int, sought: Sequence[Sought]) -> list[Answer]:
    """Return the answer to each call, in the order of the calls."""
    found: list[Answer] = [None] * count
    for each in sought:
        for place in each.places:
            if each.row is not None and not each.is_lost:
                found[place] = each.row, each.is_created and place == each.creator
            elif each.error is not None:
                found[place] = each.error
    return found


def lose(
    sought: Sequence[Sought], error: NoAnswerError | SeveredError | None = None
) -> None:
    """Note that nothing more can be known of these rows here."""
    for each in sought:
        each.is_lost = True
        if each.made and isinstance(error, (NoConnectionError, SeveredError)):
            # The INSERT has made rows, but which of them could not be asked any more.
            each.error = unknown_outcome(error)


def only_find(sought: Sequence[Sought]) -> None:
    """Note that these rows are to be looked for, but not to be inserted here."""
    for each in sought:
        each.creator = None


def halves(
    sought: Sequence[Sought], error: NoAnswerError
) -> Sequence[Sequence[Sought]]:
    """Return what to try by itself after an error; the rest is lost."""
    if not error.is_about_values or len(sought) == 1:
        lose(sought, error)
        return ()
    middle = len(sought) // 2
    return sought[:middle], sought[middle:]


def unknown_outcome(
    error: NoConnectionError | SeveredError,
) -> OutcomeUnknownError:
    """Build the error for an INSERT of which nobody knows what became."""
    made = OutcomeUnknownError(_INSERT)
    made.__cause__ = error.__cause__
    return made


@contextmanager
def noting_cancellation() -> Generator[None]:
    """Say that a row may have been inserted, where an INSERT is cancelled."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        error.add_note(CANCELLED)
        raise
