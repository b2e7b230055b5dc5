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


def names_in(tree: ast.AST) -> set[str]:
    """All names that the code defines or uses: variables, attributes, arguments."""
    fields = ("id", "attr", "arg", "name", "asname")
    return {
        name
        for node in ast.walk(tree)
        for field in fields
        if isinstance(name := getattr(node, field, None), str)
    }


def definitions(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Each function and class, as ``function``, ``Class`` or ``Class.method``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            name = f"{within}{node.name}"
            yield name, node
            yield from definitions(node, f"{name}.")


TREES = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
EVERYWHERE = set[str]().union(*map(names_in, TREES))
INSIDE: defaultdict[str, set[str]] = defaultdict(set)
for tree in TREES:
    for name, node in definitions(tree):
        INSIDE[name] |= names_in(node)


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
    names = INSIDE[place] if place else EVERYWHERE
    assert name in names, f"{test} fails without {name} in {place or 'the package'}"
