"""Hold keys in the name of a session."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, cast
from weakref import ref

from sqlalchemy.orm import Session

from .._databases import connections_of, facts_of, has_line, is_in_file
from .._locks import Owner
from .._models import is_executing

if TYPE_CHECKING:
    from .key import Key


class SessionOwner(Owner):
    """What holds keys as long as the session is there, or less."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = ref(session)

    def is_alive(self) -> bool:
        """Whether the session is still there."""
        return self._session() is not None

    def rank(self) -> int:
        """Return how much the session holds that others may be waiting for.

        0: nothing; 1: a connection; 2: a transaction in an SQLite file as well.
        """
        session = self._session()
        rank = 0
        for connection in () if session is None else connections_of(session):
            rank = 1
            if facts_of(connection.dialect).has_one_writer and is_in_file(connection):
                return 2
        return rank

    def is_executing(self) -> bool:
        """Whether a statement of the session is under way."""
        session = self._session()
        connections = () if session is None else connections_of(session)
        return any(map(is_executing, connections))

    def is_in_line(self, key: Hashable) -> bool:
        """Whether it may stand in the line for SQLite's writer."""
        session = self._session()
        place, _, _ = cast("Key", key)
        dialect = place.database()
        is_free = session is not None and not connections_of(session)
        return is_free and dialect is not None and has_line(dialect)
