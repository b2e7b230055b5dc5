import shutil
from collections.abc import Iterator
from pathlib import Path

import mapped
import pytest
from backends import tables_of
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

pytest.register_assert_rewrite("ways")

from ways import Ways  # noqa: E402 - pytest has to know before


@pytest.fixture
def other(backend: str, url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Other connections to the same database, without a loop."""
    if not url.startswith("sqlite"):
        yield request.getfixturevalue(tables_of(backend))
        return
    engine = create_engine(make_url(url).set(drivername="sqlite"))
    yield engine
    engine.dispose()


@pytest.fixture
def ways(engine: AsyncEngine, other: Engine) -> Ways:
    return Ways(engine, other)


@pytest.fixture(scope="session")
def mapped_file(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mapped") / "mapped.db"
    engine = create_engine(f"sqlite:///{shutil.copy(file, path)}")
    mapped.Base.metadata.create_all(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def mapped_on_postgres(tables: Engine) -> None:
    mapped.Base.metadata.create_all(tables)


@pytest.fixture
def mapped_tables(url: str, request: pytest.FixtureRequest) -> None:
    """More tables, which few tests need, and which no test fills for longer."""
    if url.startswith("sqlite"):
        path = make_url(url).database or ""
        shutil.copy(request.getfixturevalue("mapped_file"), path)
    else:
        request.getfixturevalue("mapped_on_postgres")
