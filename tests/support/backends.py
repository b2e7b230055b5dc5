"""The databases, and marks for the tests that need only some of them."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

Sessions = async_sessionmaker[AsyncSession]

POSTGRES = ["postgresql+asyncpg", "postgresql+psycopg"]
BACKENDS = ["sqlite+aiosqlite", *POSTGRES]

on_sqlite = pytest.mark.parametrize("backend", ["sqlite+aiosqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", POSTGRES, indirect=True)
by_savepoint = pytest.mark.parametrize("strategy", ["savepoint"], indirect=True)
each_strategy = pytest.mark.usefixtures("strategy")
