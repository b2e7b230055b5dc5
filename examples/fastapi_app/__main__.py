"""Serve heroes over HTTP, from an SQLite file or from HEROES_DATABASE_URL.

    python examples/fastapi_app
    python examples/fastapi_app --workers 2 --port 8001

The service says on /docs what it can do. ``python examples/fastapi_app/storm.py`` puts
load on it.
"""

import argparse
from pathlib import Path

import uvicorn

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    uvicorn.run("app:app", app_dir=str(Path(__file__).parent), **vars(given))
