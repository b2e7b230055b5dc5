"""Find where a session writes, which need not be where it reads."""

from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, inspect, select, table, update
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, Session

from .._databases import name_of
from .._models import as_flushing

GET_BIND: Final = "get_bind"

# A session's own get_bind() may send a SELECT to a replica, and that one lags. For a
# first look it will do: most rows are there. But a row that is missing may have been
# committed, and what a call inserts, locks or reads again is not on the replica yet.
#
# Such a method sees whether a statement writes by its class, or by the session's flag
# of a flush. It is not asked for anything else: an ORM query ignores a bind among its
# arguments, and replaces the clause. So the session is given another get_bind() for as
# long as it takes, which asks its own for the place of an UPDATE in a flush.


def routes(session: Session) -> bool:
    """Whether the session chooses a bind for each statement."""
    return type(session).get_bind is not Session.get_bind


def writer_of(session: Session, mapper: Mapper[Any]) -> Engine | Connection:
    """Return where the session writes rows of the model."""
    if not routes(session):
        return session.get_bind(mapper)
    with as_flushing(session):
        return session.get_bind(mapper, clause=_write(mapper))


def database_of(session: Session, model: type[object]) -> str | None:
    """Return the name of the database that has the model, if the session says it."""
    with suppress(Exception):  # It may have no bind, or choose by something else.
        mapper = inspect(model, raiseerr=False)
        return name_of(session.get_bind(mapper).dialect)
    return None


def send_to_writer(session: Session, mapper: Mapper[Any]) -> bool:
    """Let all statements go where the session writes; say if reads went elsewhere."""
    if not routes(session) or GET_BIND in vars(session):
        return False  # It does not choose, or has been given another method already.
    # Both are asked first, because the session's own method may raise.
    reader = session.get_bind(mapper, clause=select(mapper.class_))
    chooser = _ToWriter(session)
    writer = chooser(mapper)
    vars(session)[GET_BIND] = chooser
    return reader is not writer


def send_anywhere(session: Session) -> None:
    """Let the session choose again, unless it always has."""
    if isinstance(vars(session).get(GET_BIND), _ToWriter):
        del vars(session)[GET_BIND]


def refuse_shards(session: Session, model: type[object]) -> None:
    """Refuse a session that chooses a database by the values of each row."""
    # It chooses for an instance, or by the text of a statement, and a call has to know
    # where it will insert while it has neither: to queue, and to open its SAVEPOINT.
    if hasattr(session, "shard_chooser"):
        msg = (
            f"the session is sharded, and a call for {model.__name__} needs one "
            "database to look and to insert in; choose the shard yourself, and give "
            "the call a session of its engine, as in AsyncSession(shards['europe'])"
        )
        raise InvalidRequestError(msg)


class _ToWriter:
    """A get_bind() that answers a read as it would a write."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._choose: Any = session.get_bind

    def __call__(self, mapper: Any = None, clause: Any = None, **options: Any) -> Any:
        # Statements without a model are not ours.
        if mapper is None or not (clause is None or clause.is_select):
            return self._choose(mapper, clause=clause, **options)
        with as_flushing(self._session):
            return self._choose(mapper, clause=_write(mapper), **options)


def _write(mapper: Any) -> Any:
    """Return a statement that writes."""
    local: Any = inspect(mapper).local_table
    # A model may be mapped to something else, such as a join.
    is_table = issubclass(type(local), Table)
    return update(local if is_table else table("unknown"))
