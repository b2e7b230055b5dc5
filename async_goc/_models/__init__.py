"""What a mapped class tells us, without asking the database.

`criteria` takes SQL expressions apart, `mapping` knows a class's columns and remembers
what was found out about it, `fields` says what an attribute's name stands for, and
`constraints` which of its unique constraints cover a lookup.
"""

from .constraints import (
    Unique,
    conditions_on,
    covering,
    is_covered,
    sql_text,
    uniques_of,
)
from .criteria import SQL, Equality, conjuncts, differs, equality
from .fields import Field, default_field, lookup_field, unknown_field
from .mapping import T, columns_of, has_joins, identity_of, memory, nullable, readable

__all__ = [
    "SQL",
    "Equality",
    "Field",
    "T",
    "Unique",
    "columns_of",
    "conditions_on",
    "conjuncts",
    "covering",
    "default_field",
    "differs",
    "equality",
    "has_joins",
    "identity_of",
    "is_covered",
    "lookup_field",
    "memory",
    "nullable",
    "readable",
    "sql_text",
    "uniques_of",
    "unknown_field",
]
