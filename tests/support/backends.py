"""The databases, and marks for the tests that need only some of them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

Sessions = async_sessionmaker[AsyncSession]

POSTGRES = ["postgresql+asyncpg", "postgresql+psycopg"]
BACKENDS = ["sqlite+aiosqlite", *POSTGRES]

on_sqlite = pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", POSTGRES, indirect=True)
by_savepoint = pytest.mark.parametrize("strategy", ["savepoint"], indirect=True)
each_strategy = pytest.mark.usefixtures("strategy")


def before_sql(test: Callable[..., Any]) -> Any:
    """What fails before any SQL does so on every database, and with each strategy."""
    return on_sqlite(by_savepoint(test))
