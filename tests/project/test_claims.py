"""What a test's docstring says it would fail without is still in the package."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import async_goc

PACKAGE = Path(async_goc.__file__).parent
TESTS = Path(__file__).parents[1]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# "Fails without `name`." Or "Fails without `name` in `Class.method`, and without ..."
CLAIM = re.compile(r"without\s+`([^`]+)`(?:\s+in\s+`([^`]+)`)?")


def note(node: ast.AST, *places: str) -> None:
    """Note the names that the code defines or uses, for each place that it is in.

    A place is ``function``, ``Class`` or ``Class.method``; everywhere is the first.
    """
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        places += (f"{places[-1]}.{node.name}".removeprefix("."),)
    for field in ("id", "attr", "arg", "name", "asname"):
        if isinstance(name := getattr(node, field, None), str):
            for place in places:
                INSIDE[place].add(name)
    for child in ast.iter_child_nodes(node):
        note(child, *places)


INSIDE: defaultdict[str, set[str]] = defaultdict(set)
for path in PACKAGE.rglob("*.py"):
    note(ast.parse(path.read_text()), "")


def claims() -> Iterator[tuple[str, str, str]]:
    """What each test fails without: (the test, the name, what the name is in)."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, FUNCTIONS):
                _, fails, rest = (ast.get_docstring(node) or "").partition("Fails ")
                for name, place in CLAIM.findall(rest) if fails else ():
                    yield f"{path.stem}.{node.name}", name, place


CLAIMS = list(claims())


def test_claims_are_written_in_one_way() -> None:
    """Those of another form would not be found, and not be checked."""
    others = re.compile(r"fails? with `|it fails without|taken out", re.IGNORECASE)
    texts = {path: path.read_text() for path in TESTS.rglob("*.py")}
    del texts[Path(__file__)]
    assert [path for path, text in texts.items() if others.search(text)] == []
    assert len(CLAIMS) > 30


@pytest.mark.parametrize(("test", "name", "place"), CLAIMS)
def test_what_a_test_fails_without_is_there(test: str, name: str, place: str) -> None:
    """The name is used, or defined, where the docstring says it is."""
    where = place or "the package"
    assert name in INSIDE[place], f"{test} fails without {name} in {where}"
