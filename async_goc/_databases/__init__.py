"""All that differs between databases and drivers.

A new database is a row in `facts` and one in `errors`. `begin` makes a transaction real
where the driver does not. `blockers` asks what an INSERT has met, and `stored` compares
a value as the column stores it. `tables` gives a statement many rows of values in a
text that does not depend on how many there are, and `gather` reads many in one array.
`column` knows of which types the values of one column are, `uniform` makes a driver
take values of several types, and `order` says which values a database takes for equal.
`patience` says how long a statement may wait for a rival, and `advisory` locks keys.
`direct` sends a statement past SQLAlchemy's execution, by one of `lanes`, and `steps`
many, on SQLite.
`writer` lets SQLite's transactions begin one after the other, `line` is where they
wait, and `savepoints` keeps them apart on a connection that they share.
For a check, `catalog` reads which unique keys there are, `surroundings` says what is
between an engine and its server, and `urls` finds the driver for a URL.
"""

# pyright: reportUnusedImport=false

from .begin import flush, refuse_without_transaction, settle
from .blockers import is_beyond_snapshot, relations_of
from .catalog import StoredTable, read_tables
from .catalog_keys import StoredKey
from .column import Column, types_of
from .connections import (
    connections_of,
    is_in_file,
    isolation_level_of,
    options_of,
    schemas_of,
)
from .direct import (
    CANCELLED,
    Lane,
    NoAnswerError,
    NoConnectionError,
    NoLaneError,
    Rows,
    SeveredError,
    Wire,
    fetch,
)
from .ending import give_up, reason_of_end
from .errors import (
    Failure,
    Violation,
    asks_to_run_again,
    code_of,
    has_lost_connection,
    is_answer,
    is_changed_since_snapshot,
    is_duplicate_key,
    is_lock_timeout,
    is_serialization_failure,
    violation,
)
from .facts import (
    facts_of,
    ignores_case,
    inserts_natively,
    name_of,
    native_insert,
    read_hidden,
)
from .lanes import lane_of
from .order import comparable, has_known_equality, may_be_refused, ordering
from .patience import milliseconds
from .steps import Step, look as look_in_steps, write as write_in_steps
from .stored import as_stored, stores_another
from .surroundings import (
    READ_ONLY,
    begins_transactions,
    has_shared_connection,
    keeps_statements_in_pooler,
    level_without_retry,
)
from .tables import Source, bounded_wait, unbounded
from .urls import asynchronous, missing_file, unprepared
from .writer import find_writer, has_line, mark_as_reader, writer_of
