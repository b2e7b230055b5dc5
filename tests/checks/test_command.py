"""The command line: what it prints, and its exit codes."""

import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import checked
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from async_goc import sqlite
from async_goc._command import main, report
from async_goc.checks import Code, Finding

BASE, SOUND = "checked:Base", "checked:Sound"
DOCUMENT = (Path(__file__).parents[2] / "docs" / "checking.md").read_text()
SUPPORT = Path(checked.__file__).parent
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_json(demo_url: str, capsys: Captured) -> None:
    """A document of findings; and 1, because there are errors."""
    assert main(["check", BASE, "--url", demo_url, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == 1
    findings = document["findings"]
    found = checked.FOUND | checked.NOT_NATIVE | checked.FOLDED
    assert {(each["code"], each["model"]) for each in findings} == found
    keys = {"code", "severity", "model", "message", "remedy"}
    assert all(set(each) == keys for each in findings)


def test_the_document() -> None:
    """The document lists every code, and shows the JSON that is written."""
    assert [code for code in get_args(Code) if f"`{code}`" not in DOCUMENT] == []
    [example] = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    shown = json.loads(example)
    found = [Finding(**each) for each in shown["findings"]]
    assert shown == {"version": 1, "findings": [asdict(each) for each in found]}


@pytest.mark.parametrize("has_rich", [True, False])
def test_report(
    demo_url: str,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    has_rich: bool,
) -> None:
    """A table; plain lines without `rich`; and how many there are."""
    if not has_rich:
        monkeypatch.setattr(report, "find_spec", lambda _: None)
    monkeypatch.setenv("DATABASE_URL", demo_url)
    assert main(["check", BASE]) == 1
    out = capsys.readouterr().out
    assert ("what to do" in out) is has_rich
    assert ("error duplicates Lost\n" in out) is not has_rich
    for word in ("duplicates", "Lost", "add one by a migration", "4 errors, 10 warn"):
        assert word in out
    assert "--engine MODULE:NAME does that" in out


def test_severities(demo_url: str, capsys: Captured) -> None:
    """A warning is enough for 1 where that is asked for."""
    url = ["--url", demo_url]
    assert main(["check", SOUND, *url, "--fail-on", "warning"]) == 0
    assert capsys.readouterr().out.startswith("0 errors, 0 warnings\n")
    assert main(["check", "checked:Seat", *url]) == 0
    assert "0 errors, 1 warning\n" in capsys.readouterr().out
    assert main(["check", "checked:Seat", *url, "--fail-on", "warning"]) == 1


def test_engine(
    demo_url: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program's own engine is looked at as well."""
    url = demo_url.replace("sqlite", "sqlite+aiosqlite")
    arguments = ["check", SOUND, "--engine", "checked:engine"]
    monkeypatch.setattr(checked, "engine", create_async_engine(url), raising=False)
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "sqlite-not-configured" in out
    assert "(engine)" in out
    assert "--engine" not in out
    sqlite.configure(checked.engine)
    assert main(arguments) == 0
    assert "sqlite" not in capsys.readouterr().out


MODULES = {
    "ends": "raise SystemExit(0)",
    "fails": "raise KeyError('x')",
    "needs": "import nowhere_at_all",
    "tables": "from sqlalchemy import MetaData\nnone = MetaData()",
    "mapped": (
        "from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column as column,"
        " relationship\n"
        "class Base(DeclarativeBase): pass\n"
        "class A(Base):\n"
        "    __tablename__ = 'a'\n"
        "    id: Mapped[int] = column(primary_key=True)\n"
        "    b = relationship('Nowhere')\n"
    ),
}
NO_DRIVER = "oracle+nowhere://u:secret@h/d"
REFUSED = "postgresql+asyncpg://u:secret@127.0.0.1:1/d"
NOT_LOOKED = {
    "checked": "write MODULE:NAME",
    "nowhere:Base": "there is no module nowhere",
    "checked:nowhere": "checked has no 'nowhere'",
    "checked:make --url sqlite://": "give a declarative base",
    "needs:Base": "nowhere_at_all, which is not installed",
    "ends:Base": "ends cannot be imported; mend SystemExit",
    "fails:Base": "fails cannot be imported; mend KeyError",
    "tables:none --url sqlite://": "has no tables; import the modules",
    "mapped:Base --url sqlite://": "InvalidRequestError",
    "checked:Base": "no database was named; give --url URL",
    "checked:Base --url nonsense": "write dialect://user@host/name",
    "checked:Base --url sqlite:///nowhere.db": "there is no file nowhere.db",
    f"checked:Base --url {NO_DRIVER}": "nowhere",
    "checked:Base --url oracle://u:secret@h/d": "'; install it",
    f"checked:Base --url {REFUSED}": "see whether the server runs",
    "checked:Base --engine checked:Base": "no AsyncEngine but DeclarativeAttribute",
    "checked:Base --engine nowhere:engine": "there is no module nowhere",
}


@pytest.mark.parametrize("arguments", NOT_LOOKED)
def test_could_not_look(
    arguments: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2, one line that says what to do, and nothing that is secret."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    # As where the program is started by its name: the folder is not on the path.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert main(["check", *arguments.split()]) == 2
    if "mapped" in arguments:
        sys.modules["mapped"].Base.registry.dispose()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("async_goc check could not look: ")
    assert NOT_LOOKED[arguments] in captured.err
    assert ("see whether the server" in captured.err) is (REFUSED in arguments)
    assert len(captured.err.splitlines()) == 1
    assert "secret" not in captured.err


URLS = {
    "postgres://h/d": "asyncpg",
    "postgresql+psycopg2://h/d": "asyncpg",
    "postgresql://h/d?sslmode=require": "psycopg",
    "postgresql+psycopg://h/d": "psycopg",
    "mysql+pymysql://h/d": "asyncmy",
    "mariadb://h/d?charset=utf8mb4": "aiomysql",
    "mariadb+aiomysql://h/d": "aiomysql",
    "sqlite://": "aiosqlite",
    "sqlite:///file:x?uri=true&mode=ro": "aiosqlite",
}


def test_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL for any driver gets an asynchronous one, if one is installed."""
    from async_goc._command.targets import NotFoundError, make_engine  # noqa: PLC0415
    from async_goc._databases import urls  # noqa: PLC0415

    for url, driver in URLS.items():
        assert make_engine(url, {}).dialect.driver == driver
    monkeypatch.setattr(urls, "find_spec", lambda _: None)
    with pytest.raises(NotFoundError, match=r'pip install "async-goc\[postgresql\]"'):
        make_engine("postgres://h/d", {})


def test_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """``python -m async_goc`` says which commands there are."""
    monkeypatch.setattr(sys, "argv", ["async_goc"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("async_goc", run_name="__main__")
    assert ended.value.code == 2
    assert "usage: python -m async_goc" in capsys.readouterr().err


@pytest.mark.heavy
def test_exit_codes(demo_url: str) -> None:
    """The three of them, in processes of their own."""

    def run(*arguments: str) -> tuple[int, str, str]:
        path = os.pathsep.join([str(SUPPORT), *sys.path])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "async_goc", "check", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            check=False,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = run(SOUND, "--url", demo_url)
    assert (code, err) == (0, "")
    assert out.startswith("0 errors, 0 warnings")
    code, out, err = run(BASE, "--url", demo_url, "--json")
    assert (code, err) == (1, "")
    assert len(json.loads(out)["findings"]) == 14
    code, out, err = run("nowhere:Base")
    assert (code, out) == (2, "")
    assert "Traceback" not in err
