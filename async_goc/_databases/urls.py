"""Find the asynchronous driver for a URL that was written for any driver."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

# By the name before the plus sign: the dialect, and its drivers, the preferred first.
_ASYNC: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "postgres": ("postgresql", ("asyncpg", "psycopg")),
    "postgresql": ("postgresql", ("asyncpg", "psycopg")),
    "sqlite": ("sqlite", ("aiosqlite",)),
    "mysql": ("mysql", ("asyncmy", "aiomysql")),
    "mariadb": ("mariadb", ("asyncmy", "aiomysql")),
}
_EXTRAS: Final[Mapping[str, str]] = {
    "asyncpg": "postgresql",
    "aiosqlite": "sqlite",
    "asyncmy": "mariadb",
}
# A driver that prepares nothing can look through any pooler, and leaves nothing there.
_UNPREPARED: Final[Mapping[str, Mapping[str, int | None]]] = {
    "asyncpg": {"statement_cache_size": 0, "prepared_statement_cache_size": 0},
    "psycopg": {"prepare_threshold": None},
}


def unprepared(url: URL) -> dict[str, Any]:
    """Return the arguments by which the driver prepares no statement."""
    return dict(_UNPREPARED.get(url.drivername.partition("+")[2], {}))


def asynchronous(text: str) -> URL:
    """Return the URL with an asynchronous driver that is installed.

    Raises ValueError, which says what to do, where there is none.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        msg = "the URL is none that SQLAlchemy can read; write dialect://user@host/name"
        raise ValueError(msg) from None
    dialect, drivers = _ASYNC.get(url.get_backend_name(), ("", ()))
    given = url.drivername.partition("+")[2]
    if not drivers or given in drivers:
        return url
    # What follows the question mark was written for libpq, which psycopg has as well.
    ordered = reversed(drivers) if url.query else drivers
    driver = next((name for name in ordered if find_spec(name)), None)
    if driver is None:
        msg = (
            f"no asynchronous driver for {dialect} is installed; "
            f'pip install "async-goc[{_EXTRAS[drivers[0]]}]"'
        )
        raise ValueError(msg)
    return url.set(drivername=f"{dialect}+{driver}")


def missing_file(url: URL) -> Path | None:
    """Return the database file, if there ought to be one, and is none."""
    # SQLite would create it.
    if url.get_backend_name() != "sqlite" or "uri" in url.query:
        return None
    if url.database in {None, "", ":memory:"}:
        return None
    path = Path(str(url.database))
    return None if path.exists() else path
