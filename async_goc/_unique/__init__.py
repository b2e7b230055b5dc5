"""One object per key and session, without asking the database twice.

`mixin` is what people call. `key` says which calls are the same lookup, and `memory`
what is kept of its answer and when that is still believed; `columns` tells it what the
answer depends on, and what may change that.
"""

# pyright: reportUnusedImport=false

from .mixin import UniqueMixin
