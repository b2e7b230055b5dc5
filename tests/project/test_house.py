"""The rules of the house: doors, one place for each difference, and short files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import async_goc

PACKAGE = Path(async_goc.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
DIALECTS = (
    *("sqlite", "postgres", "mysql", "mariadb"),
    *("asyncpg", "psycopg", "asyncmy", "citext", "sqlalchemy.dialects"),
)
# `sqlite` is a public name; and users read which database an error, or a finding, is
# about.
EXCEPTIONS = {f"exceptions/{name}.py" for name in ("__init__", "errors", "warnings")}
CHECKS = {"_checks/finding.py", "_checks/engines.py"}
DATABASES = {"__init__.py", "sqlite.py", *EXCEPTIONS, *CHECKS}
# Public, in spite of their names.
PUBLIC = {"_mapping", "_replace"}


def place(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> Path:
    """The folder of a file; a file at the top is a room of its own."""
    return path if path.parent == PACKAGE else path.parent


def imported(path: Path, node: ast.ImportFrom) -> Iterator[Path]:
    """The files or folders that a relative import names."""
    folder = path.parents[node.level - 1]
    names = [node.module] if node.module else [alias.name for alias in node.names]
    for name in names:
        yield folder.joinpath(*name.split("."))


def behind_doors() -> Iterator[str]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                for target in imported(path, node):
                    is_inside = target.parent not in {PACKAGE, PACKAGE.parent}
                    if is_inside and target.parent != room_of(path):
                        yield f"{place(path)}:{node.lineno} imports {place(target)}"


def docstrings(tree: ast.AST) -> set[ast.expr]:
    """Every string that stands alone: docstrings, and what is said of a name."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def dialect_names() -> Iterator[str]:
    for path, tree in TREES.items():
        if path.parent.name == "_databases" or place(path) in DATABASES:
            continue
        said = docstrings(tree)
        for node in ast.walk(tree):
            text = ""
            if isinstance(node, ast.ImportFrom) and not node.level:
                text = f"{node.module} {[alias.name for alias in node.names]}"
            elif isinstance(node, ast.Import):
                text = str([alias.name for alias in node.names])
            elif isinstance(node, ast.Constant) and node not in said:
                text = str(node.value)
            if any(name in text.lower() for name in DIALECTS):
                yield f"{place(path)}:{node.lineno} names a database: {text}"


def private_names() -> Iterator[str]:
    """Private attributes of others; a class's own are those of ``self``."""
    for path, tree in TREES.items():
        if path.name == "private.py":
            continue
        own = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                is_dunder = node.attr.startswith("__")
                if not is_dunder and node.attr not in own | PUBLIC:
                    yield f"{place(path)}:{node.lineno} uses {node.attr}"
            elif isinstance(node, ast.ImportFrom) and not node.level:
                module = str(node.module)
                names = [*module.split("."), *(alias.name for alias in node.names)]
                if any(n.startswith("_") and n != "__future__" for n in names):
                    yield f"{place(path)}:{node.lineno} imports {names}"


def test_rooms_are_entered_by_their_doors() -> None:
    """A file imports another folder's names from its ``__init__``, never deeper."""
    assert list(behind_doors()) == []


def test_what_differs_between_databases_is_in_one_place() -> None:
    """No name of a dialect or driver outside ``_databases/`` and ``sqlite.py``."""
    assert list(dialect_names()) == []


def test_private_names_of_sqlalchemy_are_in_one_place() -> None:
    """Outside ``_models/private.py``, only public names of others are used."""
    assert list(private_names()) == []


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_file_is_one_idea(path: Path) -> None:
    """No file is above 250 lines, no function above 40 without its docstring."""
    assert len(path.read_text().splitlines()) <= 250
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in filter(lambda n: isinstance(n, functions), ast.walk(TREES[path])):
        assert isinstance(node, functions)
        has_docstring = ast.get_docstring(node) is not None
        first = node.body[0]
        start = (first.end_lineno or 0) + 1 if has_docstring else first.lineno
        assert (node.end_lineno or 0) - start < 40, node.name
