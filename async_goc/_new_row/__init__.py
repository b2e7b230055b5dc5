"""What a new row gets.

`values` checks the defaults, and evaluates them once. `new_row` adds what the lookup
says, and makes the instance; by a factory, or by the model's `constructor`.
"""

# pyright: reportUnusedImport=false

from .constructor import (
    construct,
    fills_relationship,
    has_constructor,
    has_generated_constructor,
    is_argument,
    sets_parent,
)
from .new_row import (
    Factory,
    NewRow,
    all_unknown,
    has_no_say,
    note_unrelated,
    takes_argument,
)
from .values import Defaults, NewValues, called, is_mapping
