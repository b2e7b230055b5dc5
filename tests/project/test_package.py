"""The package as a whole."""

from importlib.metadata import version
from pathlib import Path

import async_goc

# Modules that are imported by themselves, by who wants them.
BESIDE = {"checks", "otel", "prometheus", "testing"}


def test_all_is_the_public_surface() -> None:
    """``__all__`` lists every public name, once; `ruff` keeps it sorted."""
    public = {name for name in vars(async_goc) if not name.startswith("_")}
    assert set(async_goc.__all__) == public - BESIDE
    assert len(async_goc.__all__) == len(public - BESIDE)


def test_version() -> None:
    """The package tells the version that is installed."""
    assert async_goc.__version__ == version("async-goc")


def test_is_typed() -> None:
    """Type checkers read the package's own annotations."""
    assert (Path(async_goc.__file__).parent / "py.typed").exists()
