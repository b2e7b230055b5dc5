"""Put the row in, at no cost to the caller if that fails.

`savepoint` writes by the unit of work, inside a guard, and `originals` is how the guard
puts the caller's objects back. Where `obstacles` finds nothing against it, `native`
inserts a row by one statement, with the keys of its `parents`, and `bulk` many rows, in
the columns that `sent` names, with what `constructed` learns of a constructor's
defaults. `completion` loads what the new instance lacks, and `verdict` decides what a
database error means: a lost race, or an error of the caller's.
"""

# pyright: reportUnusedImport=false

from .bulk import insert_from_table, insert_many
from .completion import complete_created, complete_found, complete_updated, fill_empty
from .constructed import constructed
from .native import insert_natively, returning_insert
from .obstacles import (
    heard_events,
    is_watched,
    obstacle_to_many,
    obstacles_to_native,
    strategy_for,
)
from .savepoint import Guard, insert_all, insert_in_savepoint, update
from .sent import filled_by, is_called, sent_columns
from .verdict import explain, find_rival, refuse_many
