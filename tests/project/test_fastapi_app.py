"""The FastAPI application with two workers, under its own storm."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers import free_port
from serving import serving
from sqlalchemy import Engine, text

APP = Path(__file__).parents[2] / "examples" / "fastapi_app"
# A storm as its users run it has 3,000 requests, and takes longer.
STORM = ("--users", "30", "--requests", "600", "--leaving", "20")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(120),
    pytest.mark.parametrize(
        "backend", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True
    ),
]


@pytest.fixture
def own_url(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """A database of the application's own."""
    if backend.startswith("sqlite"):
        yield f"{backend}:///{tmp_path / 'heroes.db'}"
        return
    tables: Engine = request.getfixturevalue("tables")
    admin = tables.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE heroes"))
    url = tables.url.set(drivername=backend, database="heroes")
    yield url.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE heroes WITH (FORCE)"))


@pytest.fixture
def base_url(own_url: str) -> Iterator[str]:
    """Where the application listens."""
    port = str(free_port())
    command = (APP, "--workers", "2", "--port", port)
    settings = {"HEROES_DATABASE_URL": own_url}
    with serving(*command, awaited="startup complete", times=2, **settings):
        yield f"http://127.0.0.1:{port}"


def test_storm(base_url: str) -> None:
    """Each hero is created by one request, nothing fails, and nothing is held."""
    command = [sys.executable, APP / "storm.py", "--url", base_url, *STORM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("\n0 errors\n"), done.stdout + done.stderr
    assert done.returncode == 0
    page = httpx.get(f"{base_url}/docs")
    assert page.status_code == 200
    paths = httpx.get(f"{base_url}/openapi.json").json()["paths"]
    assert set(paths) == {"/heroes/{team}", "/heroes/{team}/{name}"}
    counted = httpx.get(f"{base_url}/metrics").text
    assert 'async_goc_calls_total{model="Hero",outcome="' in counted
