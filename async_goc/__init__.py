"""Race-safe get_or_create for SQLAlchemy's AsyncSession."""

from . import exceptions, sqlite
from ._call import (
    DEFAULT_POLICY,
    Event,
    Observer,
    Outcome,
    Policy,
    Stats,
    observers,
)
from ._locks import KeyedLocks, LockStatistics
from ._many import get_or_create_ids, get_or_create_many, update_or_create_many
from ._own import Batch, GetOrCreator, run_in_transaction
from ._single import get_or_create, update_or_create
from ._unique import UniqueMixin

__version__ = "0.2.0"

__all__ = [
    "DEFAULT_POLICY",
    "Batch",
    "Event",
    "GetOrCreator",
    "KeyedLocks",
    "LockStatistics",
    "Observer",
    "Outcome",
    "Policy",
    "Stats",
    "UniqueMixin",
    "exceptions",
    "get_or_create",
    "get_or_create_ids",
    "get_or_create_many",
    "observers",
    "run_in_transaction",
    "sqlite",
    "update_or_create",
    "update_or_create_many",
]
