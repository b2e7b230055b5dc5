"""What a mapped class tells us, without asking the database.

Read `mapping` first (a class's columns, and how what is found out about it is kept),
then `criteria`, which takes SQL expressions apart. `fields` says what the name of an
attribute stands for, and `constraints` which unique constraint covers a lookup, for
which `texts` compares SQL by its text. `ears` remembers what is listened to. `private`
says which private names of SQLAlchemy are used, and what happens without them.
"""

# pyright: reportUnusedImport=false

from .constraints import (
    Unique,
    conditions_on,
    covering,
    exclusion,
    is_covered,
    unique_of,
    uniques_of,
)
from .criteria import SQL, Criterion, Equality, conjuncts, differs, equality
from .ears import Ears, SessionEars
from .fields import Field, default_field, lookup_fields, unknown_field
from .mapping import (
    T,
    columns_of,
    has_joins,
    identity_of,
    is_alone,
    is_generated,
    memory,
    nullable,
    readable,
    recall,
    recalled,
    remembered,
    replacing_none,
)
from .private import (
    as_flushing,
    can_register,
    class_listeners,
    has_statement_cache,
    has_statement_names,
    is_executing,
    level_on_connect,
    may_have_listeners,
    may_skip_pending,
    register_inserted,
    register_loaded,
    register_pending,
    reset_savepoint_count,
    savepoint_count,
)
from .texts import conditions_of, sql_text, term_of
