"""Say what differs between databases, in one row for each dialect."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, String, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from .advisory import lock_keys
from .gather import gather
from .lists import Attributes, expanding_list, select_list, values_list
from .patience import limited_in_savepoint, limited_in_session
from .tables import (
    Columns,
    Source,
    TableOf,
    array_table,
    document_table,
    no_table,
)

Context = AbstractContextManager[None]
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the package asks of a database; the defaults suit one that is unknown."""

    # Returns an INSERT into a table whose conflict leaves the transaction as it was.
    native_insert: Callable[[Any], Any] | None = None
    # Whether it does so by skipping rows that conflict. It has no conflict target: a
    # target names one constraint, and a rival that takes two unique values would make
    # the INSERT fail by the other one (in 10 of 3,200 races on PostgreSQL). So
    # conflicts with constraints that the lookup is not about are skipped, too; an
    # INSERT inside a SAVEPOINT then tells which constraint it was.
    skips_conflicts: bool = False
    # Whether SAVEPOINT is refused in AUTOCOMMIT, or undoes nothing there.
    refuses_autocommit: bool = False
    # Whether an error undoes only its statement, and not the whole transaction.
    error_undoes_statement: bool = False
    # Whether only one transaction at a time can write, whatever it writes.
    has_one_writer: bool = False
    # Whether text is compared without regard to case, accents and trailing spaces where
    # its collation does not say otherwise.
    ignores_case: bool = False
    # Whether a SELECT that locks rows sees those committed after the snapshot, and
    # locks the gap where it finds none, in which two transactions deadlock that then
    # both insert there.
    has_locking_reads: bool = False
    # Returns a table of many values for a SELECT to join: arrays, or a document.
    table_of: TableOf = no_table
    # Returns an array of all rows for each column of a SELECT, if there can be one.
    gather: Callable[[Sequence[Any], Dialect], list[Any] | None] | None = None
    # Whether that table gives back every value as it was, so that it can be inserted.
    inserts_from_table: bool = False
    # Returns the same as a list of VALUES, for values that do not fit into the table.
    list_of: Callable[[Attributes, Columns, int], Source] = values_list
    # How many parameters such a list has at most, so that it is compiled soon.
    list_parameters: int = 2_000
    # The collation that has the order of Python's texts, where it is not the default.
    collation: str | None = None
    # Whether a column keeps what it is sent, and neither rounds nor pads it.
    stores_as_sent: bool = False
    # A context in which no statement waits longer, in seconds, for another transaction.
    # Where an error does not undo its statement alone, it has to be in a SAVEPOINT.
    limited_waits: Callable[[Connection, float], Context] | None = None
    # Locks numbers until the transaction ends; or returns its isolation level, if it is
    # one that does not see what rivals have committed while it waited.
    lock_keys: Callable[[Connection, Sequence[int]], str | None] | None = None


_UNKNOWN: Final = Facts()
_INNODB: Final = Facts(
    # Not IGNORE, which stores other values than it is given, nor ON DUPLICATE KEY
    # UPDATE, which takes the row of any unique constraint for the one it was about.
    native_insert=insert,
    refuses_autocommit=True,
    error_undoes_statement=True,
    ignores_case=True,
    has_locking_reads=True,
    limited_waits=limited_in_session,
    list_of=select_list,
)
_FACTS: Final[Mapping[str, Facts]] = {
    "postgresql": Facts(
        native_insert=lambda table: postgresql.insert(table).on_conflict_do_nothing(),
        skips_conflicts=True,
        refuses_autocommit=True,
        table_of=array_table,
        gather=gather,
        inserts_from_table=True,
        collation="C",
        limited_waits=limited_in_savepoint,
        lock_keys=lock_keys,
    ),
    "sqlite": Facts(
        native_insert=lambda table: sqlite.insert(table).on_conflict_do_nothing(),
        skips_conflicts=True,
        error_undoes_statement=True,
        has_one_writer=True,
        table_of=document_table,
        list_of=expanding_list,
        list_parameters=30_000,  # SQLite takes no more than 32,766.
        stores_as_sent=True,
    ),
    # SQLAlchemy names a server by its URL, so either may be the other.
    "mysql": _INNODB,
    "mariadb": _INNODB,
}


def facts_of(dialect: Dialect) -> Facts:
    return _FACTS.get(dialect.name, _UNKNOWN)


def name_of(dialect: Dialect) -> str:
    """Return which database it is, as far as is known."""
    # What the server says counts, which a URL may call by the other name.
    return "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name


def inserts_natively(dialect: Dialect) -> bool:
    """Whether one statement can insert a row, cost no more than that, and return it."""
    return facts_of(dialect).native_insert is not None and dialect.insert_returning


def native_insert(dialect: Dialect, target: Any) -> Any:
    """Return an INSERT into *target* whose conflict leaves the transaction usable."""
    make = facts_of(dialect).native_insert
    assert make is not None  # noqa: S101 - asked for where inserts_natively() is true
    return make(target)


def read_hidden(dialect: Dialect, read: Callable[[Any], R]) -> R:
    """Call *read* without a lock, and if it finds None, with one that sees all rows."""
    found = read(None)
    # Losers that share a lock deadlock as soon as they change the row. So there is none
    # where the row can be seen without. And it is shared, because the INSERT has such a
    # lock by now: two losers that both want more would wait for each other.
    is_hidden = found is None and facts_of(dialect).has_locking_reads
    return read({"read": True}) if is_hidden else found


def ignores_case(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether texts of that type are equal if they differ only in case."""
    if isinstance(type_, postgresql.CITEXT):
        return True
    collation = str(getattr(type_, "collation", None) or "").lower()
    if collation:
        return collation == "nocase" or "_ci" in collation
    return facts_of(dialect).ignores_case and isinstance(type_, String)
