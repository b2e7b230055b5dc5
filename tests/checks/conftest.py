from collections.abc import AsyncIterator
from pathlib import Path

import checked
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
def url(backend: str, url: str, tmp_path: Path) -> str:
    """A database to be filled; SQLite's is empty, and others have schemas for that."""
    return f"{backend}:///{tmp_path}/own.db" if backend.startswith("sqlite") else url


@pytest.fixture
async def place(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine with room for tables of any name."""
    if engine.dialect.name == "sqlite":
        yield engine
        return
    # MySQL's schema goes with its tables.
    cascade = " CASCADE" if engine.dialect.name == "postgresql" else ""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA checked"))
    yield engine.execution_options(schema_translate_map={None: "checked"})
    async with engine.begin() as connection:
        await connection.execute(text(f"DROP SCHEMA checked{cascade}"))


@pytest.fixture
async def demo(place: AsyncEngine) -> AsyncEngine:
    """An engine that has the demo's tables."""
    async with place.begin() as connection:
        await connection.run_sync(checked.make)
    return place


@pytest.fixture
def demo_url(tmp_path: Path) -> str:
    """A database file that has the demo's tables."""
    url = f"sqlite:///{tmp_path}/demo.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        checked.make(connection)
    engine.dispose()
    return url
