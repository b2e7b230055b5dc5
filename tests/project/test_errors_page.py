"""Each error leads to its section of the documents."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_goc import exceptions
from async_goc.exceptions import (
    AsyncGocError,
    AsyncGocWarning,
    ContentionError,
    ContradictionError,
    IsolationError,
    MissingConstraintError,
    MissingConstraintWarning,
    OutcomeUnknownError,
    RivalTimeoutError,
    SnapshotConflictError,
    SqliteTransactionWarning,
    UnknownFieldError,
)

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
EACH = [
    AsyncGocError("what happened; what to do"),
    AsyncGocWarning("what happened; what to do"),
    ContentionError(int, ["name"], 3),
    ContradictionError(int, "name", 1, 2),
    IsolationError(int, ["name"], "SERIALIZABLE"),
    MissingConstraintError(int, ["name"]),
    MissingConstraintWarning(int, ["name"]),
    OutcomeUnknownError("COMMIT"),
    RivalTimeoutError(int, ["name"], 1),
    SnapshotConflictError(int, ["name"]),
    SqliteTransactionWarning("reason", "remedy"),
    UnknownFieldError(int, ["name"]),
]


def anchors() -> Iterator[str]:
    for heading in re.findall(r"^#+ (.+)$", PAGE.read_text(), re.MULTILINE):
        yield heading.lower().replace(" ", "-")


@pytest.mark.parametrize("error", EACH, ids=lambda error: type(error).__name__)
def test_a_message_ends_with_its_section(error: Exception) -> None:
    """The path below the site's address, and the section is there."""
    found = re.search(r" \(see errors\.html#(\w+)\)$", str(error))
    assert found is not None
    assert found[1] in anchors()


def test_each_is_here() -> None:
    """No error is left out."""
    assert sorted(type(error).__name__ for error in EACH) == sorted(exceptions.__all__)
