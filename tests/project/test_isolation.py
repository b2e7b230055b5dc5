"""The table of isolation levels is what its script finds."""

import importlib
from pathlib import Path

import pytest
from backends import on_postgres

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "isolation.md").read_text()


@on_postgres
async def test_a_row_of_the_table(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One algorithm, on two levels: what the script finds is what the document says."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    isolation = importlib.import_module("isolation")
    levels = ("READ COMMITTED", "REPEATABLE READ")
    algorithm = "`get_or_create`, native"
    database = isolation.Database("", url, levels)
    found = await isolation.outcomes(database, [algorithm])
    assert [*found] == [(algorithm, level) for level in levels]
    assert f"| {algorithm} | {' | '.join(found.values())} |" in TABLE


def test_no_row_is_there_twice() -> None:
    """The table has every algorithm, and no outcome that must not be."""
    assert "**" not in TABLE.partition("<!-- outcomes -->")[2].partition("<!-- /")[0]
    assert TABLE.count("`GetOrCreator`, batch |") >= 2
