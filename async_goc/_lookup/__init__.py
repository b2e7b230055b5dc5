"""From a call's arguments to one SELECT.

`arguments` refuses what could not identify a row, `plan` compiles a lookup's names into
a statement once, and `lookup` binds one call's values to it and executes it; `plain`
does so for most hits, by less. `refresh` reads the columns of a loaded row again,
`rivals` sees rows beyond a snapshot, `limits` says how long a statement may wait for a
rival, and `cover` reports a lookup that no unique constraint covers. `collector` pauses
the garbage collector while many rows are loaded.
"""

# pyright: reportUnusedImport=false

from .arguments import (
    add_lock,
    check_options,
    is_in_autocommit,
    locks_by_reading,
    parents_of,
    refuse_autocommit,
)
from .collector import Pause, Uncollected
from .cover import require_cover, warn_if_not_covered, warn_on_hit
from .limits import has_limit, limiting_waits
from .lookup import NO_OPTIONS, Lookup, bind
from .plain import look_plainly
from .plan import Plan, known_plan, pins_of, plan_for
from .refresh import has_row, noting_loaded, read, refresh_columns, refreshing
from .rivals import read_rivals
