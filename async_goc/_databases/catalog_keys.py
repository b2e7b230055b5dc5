"""Read unique keys as SQLAlchemy reflects them, and what PostgreSQL adds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Inspector


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A primary key, a unique constraint or a unique index of the database's."""

    name: str | None
    columns: Sequence[str] = ()
    # The indexed expressions, and the condition of a partial index, as SQL.
    expressions: Sequence[str] = ()
    where: str | None = None
    # The columns of which only the first characters count, or whose case does not.
    cut: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()
    # Whether two NULLs conflict.
    is_null_equal: bool = False
    is_primary: bool = False
    is_deferrable: bool = False
    # An index that could not be built is still there, and holds for new rows only.
    is_valid: bool = True


# A schema, and a name in it.
Place = tuple[str | None, str]
Keys = Mapping[Place, Sequence[StoredKey]]


def read_inspected(
    connection: Connection, inspector: Inspector, how: dict[str, Any]
) -> Keys:
    keys = primary_keys(inspector, how)
    for place, indexes in inspector.get_multi_indexes(**how).items():
        options = f"{connection.dialect.name}_"
        keys[place] += [_of_index(each, options) for each in indexes if each["unique"]]
    # Most databases have an index of the same name for each constraint.
    for place, constraints in inspector.get_multi_unique_constraints(**how).items():
        known = {key.name for key in keys[place]}
        keys[place] += [
            StoredKey(name=each["name"], columns=each["column_names"])
            for each in constraints
            if each["name"] not in known
        ]
    return keys


def primary_keys(
    inspector: Inspector, how: dict[str, Any]
) -> defaultdict[Place, list[StoredKey]]:
    keys: defaultdict[Place, list[StoredKey]] = defaultdict(list)
    for place, found in inspector.get_multi_pk_constraint(**how).items():
        # A view has none, which some databases say by leaving it out.
        constraint: Any = found or {}
        if columns := constraint.get("constrained_columns"):
            name = constraint.get("name")
            keys[place].append(StoredKey(name=name, columns=columns, is_primary=True))
    return keys


def _of_index(index: Any, prefix: str) -> StoredKey:
    options = index.get("dialect_options", {})
    names: Sequence[str | None] = index["column_names"]
    terms = index.get("expressions", names)
    return StoredKey(
        name=index["name"],
        columns=[name for name in names if name is not None],
        expressions=[
            term for term, name in zip(terms, names, strict=True) if name is None
        ],
        where=options.get(f"{prefix}where"),
        is_null_equal=bool(options.get(f"{prefix}nulls_not_distinct")),
    )


# SQLAlchemy does not say which constraints are deferrable, nor, before 2.1, which
# indexes are invalid: those whose CREATE INDEX CONCURRENTLY has failed.
_FLAGS: Final = sa.text(
    "SELECT n.nspname, pg_table_is_visible(t.oid), t.relname, i.relname,"
    " x.indimmediate, x.indisvalid FROM pg_index x"
    " JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid"
    " JOIN pg_namespace n ON n.oid = t.relnamespace"
    " WHERE x.indisunique AND NOT (x.indimmediate AND x.indisvalid)"
)


def read_postgres(
    connection: Connection, inspector: Inspector, how: dict[str, Any]
) -> Keys:
    keys = read_inspected(connection, inspector, how)
    schema = how["schema"]
    flags = {
        (table, index): {"is_deferrable": not is_immediate, "is_valid": is_valid}
        for place, is_visible, table, index, is_immediate, is_valid in (
            connection.execute(_FLAGS)
        )
        if (is_visible if schema is None else place == schema)
    }
    return {
        place: [replace(key, **flags.get((place[1], key.name), {})) for key in found]
        for place, found in keys.items()
    }
