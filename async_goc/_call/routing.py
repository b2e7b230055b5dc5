"""Find where a session writes, which need not be where it reads."""

from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, inspect, select, table, update
from sqlalchemy.orm import Mapper, Session

_GET_BIND: Final = "get_bind"

# A session's own get_bind() may send a SELECT to a replica, and that one lags. For a
# first look it will do: most rows are there. But a row that is missing may have been
# committed, and what a call inserts, locks or reads again is not on the replica yet.
#
# Such a method sees whether a statement writes by its class, or by the session's flag
# of a flush. It is not asked for anything else: an ORM query ignores a bind among its
# arguments, and replaces the clause. So the session is given another get_bind() for as
# long as it takes, which asks its own for the place of an UPDATE. (A method that goes
# by the flag alone does not tell that place, so its reads stay on the replica.)


def routes(session: Session) -> bool:
    """Whether the session chooses a bind for each statement."""
    return type(session).get_bind is not Session.get_bind


def writer_of(session: Session, mapper: Mapper[Any]) -> Engine | Connection:
    """Return where the session writes rows of the model."""
    if routes(session):
        return session.get_bind(mapper, clause=_write(mapper))
    return session.get_bind(mapper)


def send_to_writer(session: Session, mapper: Mapper[Any]) -> bool | None:
    """Let all statements go where the session writes; say if reads went elsewhere."""
    if not routes(session) or _GET_BIND in vars(session):
        return None  # It does not choose, or has been given another method already.
    choose: Any = session.get_bind

    def get_bind(mapper: Any = None, clause: Any = None, **options: Any) -> Any:
        # Statements without a model are not ours.
        is_read = clause is None or clause.is_select
        if mapper is not None and is_read:
            clause = _write(mapper)
        return choose(mapper, clause=clause, **options)

    # Both are asked first, because the session's own method may raise.
    reader = choose(mapper, clause=select(mapper.class_))
    writer = get_bind(mapper)
    vars(session)[_GET_BIND] = get_bind
    return reader is not writer


def send_anywhere(session: Session) -> None:
    """Let the session choose again."""
    del vars(session)[_GET_BIND]


def _write(mapper: Any) -> Any:
    """Return a statement that writes."""
    local: Any = inspect(mapper).local_table
    # A model may be mapped to something else, such as a join.
    is_table = issubclass(type(local), Table)
    return update(local if is_table else table("unknown"))
