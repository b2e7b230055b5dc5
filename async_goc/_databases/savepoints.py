"""Keep a transaction inside another one apart, where sessions share a connection."""

import sqlite3
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import OperationalError

from .line import is_in_transaction


class Savepoints:
    """The SAVEPOINTs of transactions that began inside another one."""

    # Those that began later are inside those that began earlier, and undone with them.

    def __init__(self) -> None:
        # In order of their beginning. None: it was rolled back with one around it.
        self._names: WeakKeyDictionary[PoolProxiedConnection, str | None]
        self._names = WeakKeyDictionary()
        self._numbers = count()

    def __contains__(self, connection: PoolProxiedConnection) -> bool:
        return connection in self._names

    def begin(self, connection: PoolProxiedConnection) -> None:
        name = f"async_goc_{next(self._numbers)}"
        execute(connection, f"SAVEPOINT {name}")
        self._names[connection] = name

    def commit(self, connection: PoolProxiedConnection) -> None:
        is_last = connection is list(self._names)[-1]
        name = self._names.pop(connection)
        if name is None:
            error = sqlite3.OperationalError("the transaction around was rolled back")
            error.sqlite_errorcode = sqlite3.SQLITE_ABORT_ROLLBACK
            error.sqlite_errorname = "SQLITE_ABORT_ROLLBACK"
            raise OperationalError("COMMIT", (), error)
        # RELEASE would release the later ones as well; the end of all does it, too.
        if is_last and is_in_transaction(connection):
            execute(connection, f"RELEASE {name}")

    def rollback(self, connection: PoolProxiedConnection) -> None:
        connections = list(self._names)
        name = self._names.pop(connection)
        if name is not None and is_in_transaction(connection):
            execute(connection, f"ROLLBACK TO {name}")
            execute(connection, f"RELEASE {name}")
            for later in connections[connections.index(connection) + 1 :]:
                self._names[later] = None

    def lose_all(self) -> None:
        """Note that the transaction around all of them was rolled back."""
        for connection in list(self._names):
            self._names[connection] = None

    def forget(self) -> None:
        """Note that the transaction around all of them has ended."""
        for connection, name in list(self._names.items()):
            if name is not None:
                del self._names[connection]


def locked(statement: str) -> OperationalError:
    """Return SQLite's error; it has none where it sees one connection only."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    error.sqlite_errorname = "SQLITE_BUSY"
    return OperationalError(statement, (), error)


def is_busy(error: Exception) -> bool:
    """Whether SQLite has waited for a lock in vain."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)
    return bool(code & 0xFF == sqlite3.SQLITE_BUSY)


def execute(connection: PoolProxiedConnection, statement: str) -> None:
    """Send a statement that no listener of the caller's is to see."""
    adapted: Any = connection.dbapi_connection

    async def send(driver: Any) -> None:
        await driver.execute(statement)

    adapted.run_async(send)
