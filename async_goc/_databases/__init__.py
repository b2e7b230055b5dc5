"""All that differs between databases and drivers.

A new database is a row in `facts` and one in `errors`. `begin` makes a transaction real
where the driver does not, and `tables` gives a statement many rows of values in a text
that does not depend on how many there are.
"""

from .begin import dialect_of, flush, settle
from .errors import (
    Failure,
    Violation,
    is_duplicate_key,
    is_serialization_failure,
    violation,
)
from .tables import Source, source_for

__all__ = [
    "Failure",
    "Source",
    "Violation",
    "dialect_of",
    "flush",
    "is_duplicate_key",
    "is_serialization_failure",
    "settle",
    "source_for",
    "violation",
]
