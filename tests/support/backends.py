"""The databases, and marks for the tests that need only some of them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

Sessions = async_sessionmaker[AsyncSession]

PSYCOPG = "postgresql+psycopg"
POSTGRES = ["postgresql+asyncpg", PSYCOPG]
BACKENDS = ["sqlite+aiosqlite", *POSTGRES]
# Those that a test asks for by a mark. SQLAlchemy knows a MariaDB by either name.
MARIADB = ["mysql+asyncmy", "mysql+aiomysql", "mariadb+asyncmy"]


def heavy(*backends: str) -> list[Any]:
    return [pytest.param(backend, marks=pytest.mark.heavy) for backend in backends]


# What has to be fetched first: the test's tables are those of the server named last.
MARIADB_11 = heavy("mysql+asyncmy on mariadb_11", "mysql+aiomysql on mariadb_11")
MYSQL_9 = heavy("mysql+asyncmy on mysql_9", "mysql+aiomysql on mysql_9")
INNODB = [*MARIADB, *MARIADB_11, *MYSQL_9]

on_sqlite = pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", POSTGRES, indirect=True)
on_mariadb = pytest.mark.parametrize("backend", MARIADB, indirect=True)
on_mysql = pytest.mark.parametrize("backend", MYSQL_9, indirect=True)
on_innodb = pytest.mark.parametrize("backend", INNODB, indirect=True)
on_each = pytest.mark.parametrize("backend", [*BACKENDS, *INNODB], indirect=True)
at_read_committed = pytest.mark.parametrize("isolation_level", ["READ COMMITTED"])
# The database's own level, and the one that we advise.
at_each_level = pytest.mark.parametrize("isolation_level", [None, "READ COMMITTED"])
by_savepoint = pytest.mark.parametrize("strategy", ["savepoint"], indirect=True)
each_strategy = pytest.mark.usefixtures("strategy")


def before_sql(test: Callable[..., Any]) -> Any:
    """What fails before any SQL does so on every database, and with each strategy."""
    return on_sqlite(by_savepoint(test))


def tables_of(backend: str) -> str:
    """The fixture that has the tables on the backend's server."""
    if backend in POSTGRES:
        return "tables"
    return f"{backend.partition(' on ')[2] or 'mariadb'}_tables"
