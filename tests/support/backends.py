"""The databases, and marks for the tests that need only some of them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

Sessions = async_sessionmaker[AsyncSession]

POSTGRES = ["postgresql+asyncpg", "postgresql+psycopg"]
BACKENDS = ["sqlite+aiosqlite", *POSTGRES]
# Those that a test asks for by a mark. SQLAlchemy knows the server by either name.
MARIADB = ["mysql+asyncmy", "mysql+aiomysql", "mariadb+asyncmy"]

on_sqlite = pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", POSTGRES, indirect=True)
on_mariadb = pytest.mark.parametrize("backend", MARIADB, indirect=True)
on_each = pytest.mark.parametrize("backend", [*BACKENDS, *MARIADB], indirect=True)
at_read_committed = pytest.mark.parametrize("isolation_level", ["READ COMMITTED"])
# The database's own level, and the one that we advise.
at_each_level = pytest.mark.parametrize("isolation_level", [None, "READ COMMITTED"])
by_savepoint = pytest.mark.parametrize("strategy", ["savepoint"], indirect=True)
each_strategy = pytest.mark.usefixtures("strategy")


def before_sql(test: Callable[..., Any]) -> Any:
    """What fails before any SQL does so on every database, and with each strategy."""
    return on_sqlite(by_savepoint(test))
