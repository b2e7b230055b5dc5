"""The examples run, and do what they say."""

import ast
import os
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from documents import blocks

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
    """Every import of two packages is stored once, in bulk and by many workers.

    The expected graph is made without a database.
    """
    library = graph["standard_library"]()
    names = graph["choose"](library, ["json", "email"])
    files = [(name, graph["read_imports"](name, library)) for name in names]
    modules = {*names, *(name for _, imports in files for name in imports)}
    edges = sum(len(imports) for _, imports in files)
    rows = len(modules) + edges
    by_worker = partial(graph["store_one_by_one"], files, 8)
    for way, calls, inserts in (
        (partial(graph["store_in_bulk"], files), 2, 2),
        (by_worker, 2 * edges + len(files), rows),
    ):
        for created in (rows, 0):
            report = await graph["run"](graph_url, way, 8, is_empty=created > 0)
            assert {name for name, _ in report.importers} == modules
            assert sum(number for _, number in report.importers) == edges
            assert report.created == created
            assert report.stats.counts.total() == calls
            assert report.stats["failed"] == 0
            assert report.statements["INSERT"] == (inserts if created else 0)


def test_import_graph_reads_what_the_parser_warns_of(
    graph: dict[str, Any], tmp_path: Path
) -> None:
    """A file of the library that gives a warning is read as any other, in silence."""
    path = tmp_path / "odd.py"
    path.write_text("import json\nodd = '\\('\n")
    assert graph["read_imports"]("odd", {"odd": path}) == {"json"}


def test_import_graph_from_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The example prints its tables and logs nothing; a name of no module is an error.

    By default the rows are stored in bulk, and with a switch also one by one.
    """
    monkeypatch.chdir(tmp_path)
    script = str(EXAMPLES / "import_graph.py")

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    alone, both = run("--package", "json"), run("--package", "json", "--one-by-one")
    assert "Most imported" in alone
    assert "2 INSERT" in alone
    assert "in bulk" in alone
    assert "one by one" not in alone
    assert "in bulk" in both
    assert "one by one" in both
    assert caplog.records == []
    with pytest.raises(SystemExit):
        run("--package", "nothing")


def test_trace(tmp_path: Path) -> None:
    """The application's trace is the one that the documents print."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "fastapi_app" / "traced.py"],
        env={**os.environ, "HEROES_DATABASE_URL": "sqlite+aiosqlite:///heroes.db"},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    page = (EXAMPLES.parent / "docs" / "observing.md").read_text()
    printed, shown = (
        re.sub(r" +[\d.]+ ms", "", text)
        for text in (done.stdout, blocks("text", page)[0])
    )
    assert printed == shown


async def test_starlette(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name twice: created, and then found."""
    path = EXAMPLES / "starlette_tags.py"
    monkeypatch.setenv("TAGS_URL", f"sqlite+aiosqlite:///{tmp_path / 'tags.db'}")
    app = runpy.run_path(str(path))["app"]
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        answers = [await client.put("/tags/python") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json() == {"id": 1, "name": "python"}
    code = [line for line in path.read_text().splitlines() if line]
    assert len(code) <= 40
