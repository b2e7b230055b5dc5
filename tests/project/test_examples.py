"""The examples run, and do what they say."""

import ast
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.heavy

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_quickstart(capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty tasks, three tags: each is created once, and all ids agree."""
    path = EXAMPLES / "quickstart.py"
    runpy.run_path(str(path), run_name="__main__")
    rows = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines()]
    assert len({(name, number) for name, number, _ in rows}) == 3
    assert sum(how.startswith("created") for _, _, how in rows) == 3
    assert len(path.read_text().splitlines()) < 40


@pytest.fixture
def graph() -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / "import_graph.py"))


@pytest.fixture
def graph_url(backend: str, graph: dict[str, Any], request: Any, tmp_path: Path) -> Any:
    """A database without the example's tables, before and afterwards."""
    if backend.startswith("sqlite"):
        yield f"{backend}:///{tmp_path / 'graph.db'}"
        return
    tables: Any = request.getfixturevalue("tables")
    yield tables.url.set(drivername=backend).render_as_string(hide_password=False)
    graph["Base"].metadata.drop_all(tables)


async def test_import_graph(graph: dict[str, Any], graph_url: str) -> None:
    """Every import of two packages is stored once, with many workers; twice the same.

    The expected graph is made without a database.
    """
    library = graph["standard_library"]()
    names = graph["choose"](library, ["json", "email"])
    edges = {
        (name, imported)
        for name in names
        for imported in graph["read_imports"](name, library)
    }
    modules = {*names, *(imported for _, imported in edges)}
    for created in (len(modules) + len(edges), 0):
        report = await graph["import_graph"](graph_url, names, library, workers=8)
        assert report.stats["created"] == created
        assert report.stats["failed"] == 0
        assert {name for name, _ in report.importers} == modules
        assert sum(number for _, number in report.importers) == len(edges)
        assert report.skipped == 0
    report = await graph["import_in_bulk"](graph_url, names, library)
    assert {name for name, _ in report.importers} == modules
    assert sum(number for _, number in report.importers) == len(edges)
    assert report.stats.counts.total() == 2


def test_import_graph_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example prints its tables; a name that is no module is an error."""
    monkeypatch.chdir(tmp_path)
    script = str(EXAMPLES / "import_graph.py")
    monkeypatch.setattr(sys, "argv", [script, "--package", "json"])
    runpy.run_path(script, run_name="__main__")
    output = capsys.readouterr().out
    assert "Most imported" in output
    assert "created" in output
    monkeypatch.setattr(sys, "argv", [script, "--package", "json", "--bulk"])
    runpy.run_path(script, run_name="__main__")
    output = capsys.readouterr().out
    assert "one by one" in output
    assert "in bulk" in output
    monkeypatch.setattr(sys, "argv", [script, "--package", "nothing"])
    with pytest.raises(SystemExit):
        runpy.run_path(script, run_name="__main__")
