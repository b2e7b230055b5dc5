"""The same verbs for many rows, by a constant number of statements.

`verbs` is what people call, `input` checks the arguments, and `names` what they name.
`rows` tells the rows apart, `order` says in which order they come, and `ledger` keeps
what becomes of them. `chunks` goes through them; `loop` has the steps of the loop for
one row; `look` and `insert` are its statements, and `answers` is the difference between
rows that come back as instances and as primary keys.
"""

# pyright: reportUnusedImport=false

from .input import Progress, Rows
from .rows import are_mixed_up
from .verbs import get_or_create_ids, get_or_create_many, update_or_create_many
