"""Lock what is no row yet."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ARRAY, BigInteger, Connection, bindparam, text

# One statement for all keys, in their order. Where the snapshot is older than the lock,
# a row that was committed while it waited is not seen, and so there is no use in it.
_LOCK: Final = text("""
    SELECT current_setting('transaction_isolation'),
    CASE WHEN current_setting('transaction_isolation') LIKE 'read %'
    THEN CAST(pg_advisory_xact_lock(number) AS text) END
    FROM unnest(:numbers) AS number
""").bindparams(bindparam("numbers", type_=ARRAY(BigInteger)))


def lock_keys(connection: Connection, numbers: Sequence[int]) -> str | None:
    """Take PostgreSQL's advisory locks; or return the level above READ COMMITTED."""
    rows: Any = connection.execute(_LOCK, {"numbers": numbers}).all()
    level, lock = rows[0]
    return None if lock is not None else str(level)
