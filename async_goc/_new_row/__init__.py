"""What a new row gets.

`values` checks the defaults, and evaluates them once. `new_row` adds what the lookup
says, and makes the instance.
"""

# pyright: reportUnusedImport=false

from .new_row import Factory, NewRow, all_unknown, has_constructor, takes_argument
from .values import Defaults, NewValues, called
