"""Find what the command line names."""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from .._databases import asynchronous, missing_file, unprepared

# Where a program has its URL, most often.
VARIABLE: Final = "DATABASE_URL"


class NotFoundError(Exception):
    """What was named is not there; the text says what to do."""


def find_object(name: str, what: str) -> Any:
    """Return what ``module:name`` stands for."""
    module, _, path = name.partition(":")
    if not module or not path:
        msg = f"{name!r} names no {what}; write MODULE:NAME, such as app.models:Base"
        raise NotFoundError(msg)
    found: Any = _import(module)
    for part in path.split("."):
        if not hasattr(found, part):
            msg = f"{module} has no {path!r}; name the {what} that it has"
            raise NotFoundError(msg)
        found = getattr(found, part)
    return found


def _import(module: str) -> Any:
    # It is there where Python was started by `-m`, but not everywhere else.
    if "" not in sys.path and (folder := os.getcwd()) not in sys.path:  # noqa: PTH109
        sys.path.insert(0, folder)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            msg = f"{module} needs {error.name}, which is not installed; install it"
        else:
            msg = (
                f"there is no module {error.name}; run this where it can be imported, "
                "or set PYTHONPATH"
            )
        raise NotFoundError(msg) from error
    # A module that ends the program would end it as if nothing had been found.
    except (Exception, SystemExit) as error:
        msg = f"{module} cannot be imported; mend {type(error).__name__}: {error}"
        raise NotFoundError(msg) from error


def find_engine(name: str) -> AsyncEngine:
    """Return the program's own engine."""
    found = find_object(name, "engine")
    if not isinstance(found, AsyncEngine):
        msg = f"{name} is no AsyncEngine but {type(found).__name__}; name the engine"
        raise NotFoundError(msg)
    return found


def make_engine(url: str | None, environment: Mapping[str, str]) -> AsyncEngine:
    """Return an engine for the URL, or for that of the environment."""
    given = url or environment.get(VARIABLE)
    if not given:
        msg = (
            "no database was named; give --url URL or --engine MODULE:NAME, or set "
            f"{VARIABLE}"
        )
        raise NotFoundError(msg)
    try:
        found = asynchronous(given)
        path = missing_file(found)
        if path is not None:
            msg = f"there is no file {path}; name the database's file"
            raise NotFoundError(msg)
        settings = unprepared(found)
        return create_async_engine(found, poolclass=NullPool, connect_args=settings)
    except ValueError as error:
        raise NotFoundError(str(error)) from error
