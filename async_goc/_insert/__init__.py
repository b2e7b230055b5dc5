"""Put the row in, at no cost to the caller if that fails.

`savepoint` writes by the unit of work, inside a guard; `originals` is how the guard
puts the caller's objects back. `native` inserts by one statement, where `obstacles`
finds nothing against it. `completion` loads what the new instance lacks, and `verdict`
decides what a database error means: a lost race, or the caller's error.
"""

# pyright: reportUnusedImport=false

from .completion import complete_created, complete_found, complete_updated, fill_empty
from .native import insert_natively, strategy_for
from .native_many import insert_many, obstacle_to_many
from .obstacles import is_watched
from .savepoint import guard, insert_all, insert_in_savepoint, update
from .verdict import explain, find_rival
