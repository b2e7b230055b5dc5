"""Find what is unsafe in a model, whatever the database has."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Table
from sqlalchemy.orm import Mapper, Session

from .._databases import inserts_natively
from .._insert import obstacles_to_native
from .drift import Place
from .finding import Finding
from .keys import Declaring, Key, declarations
from .models import Models, tables_of


def keys_of(place: Place) -> Iterator[Finding]:
    """Yield what is to be known of the keys that a model declares."""
    for declared, key in place.declared:
        yield from _nullable(place, key)
        if getattr(declared, "deferrable", None):
            yield Finding(
                "deferrable",
                "warning",
                place.model,
                f"({key}) of {place.table.fullname} is declared deferrable, so it may "
                "be checked as late as COMMIT, which then fails",
                "declare it without deferrable, unless a lost race may end the "
                "transaction",
            )


def _nullable(place: Place, key: Key) -> Iterator[Finding]:
    columns: Any = place.table.columns
    names = [
        name
        for name in sorted(key.columns)
        if columns[name].nullable and f"{name} is not null" not in key.where
    ]
    if names and not key.is_null_equal and not key.is_primary:
        yield Finding(
            "nullable-key",
            "warning",
            place.model,
            f"({key}) of {place.table.fullname} is unique but for rows that have NULL "
            f"in {', '.join(names)}, of which there may be any number",
            "declare the column nullable=False, or the constraint NULLS NOT DISTINCT "
            "where the database has that, or never look up None",
        )


def without_key(models: Models) -> Iterator[Finding]:
    """Yield the models of which no row can be looked up safely."""
    found: set[object] = set()
    mapped = {t for mapper in models.mappers for t in tables_of(mapper)}
    for mapper in models.mappers:
        tables = tables_of(mapper)
        if not any(_is_key(one, tables) for t in tables for one in declarations(t)):
            found.add(mapper)
            if mapper.inherits not in found:
                yield _without_key(mapper.class_.__name__, tables)
    for table in models.tables:
        if table not in mapped and not any(
            _is_key(one, [table]) for one in declarations(table)
        ):
            yield _without_key(table.fullname, [table])


def _is_key(declared: Declaring, tables: Sequence[Table]) -> bool:
    """Whether a row is looked up by it, and not only referred to."""
    table: Any = declared.table
    if declared is not table.primary_key:
        return True
    made = table.autoincrement_column
    return not any(
        column is made
        or column.default is not None
        or column.server_default is not None
        or any(key.column.table in tables for key in column.foreign_keys)
        for column in table.primary_key.columns
    )


def _without_key(model: str, tables: Sequence[Table]) -> Finding:
    made = any(table.primary_key.columns for table in tables)
    more = " but a primary key that is made for each new row" if made else ""
    return Finding(
        "no-unique-key",
        "warning",
        model,
        f"{model} declares nothing unique{more}",
        "declare a unique constraint on what identifies a row, unless no row is ever "
        "looked up",
    )


def not_native(models: Models, engine: Engine) -> Iterator[Finding]:
    """Yield the models whose rows only the unit of work can insert, and why."""
    dialect = engine.dialect
    if not inserts_natively(dialect):
        yield Finding(
            "not-native",
            "warning",
            None,
            f"{dialect.name} by {dialect.driver} has no INSERT that returns a row and "
            "leaves the transaction as it was after a conflict",
            'nothing need be done: Policy(strategy="native") takes the SAVEPOINT',
        )
        return
    said: dict[Mapper[Any] | None, Sequence[str]] = {}
    with Session(engine) as session:
        for mapper in models.mappers:
            said[mapper] = reasons = obstacles_to_native(session, mapper)
            if reasons and said.get(mapper.inherits) != reasons:
                yield Finding(
                    "not-native",
                    "warning",
                    mapper.class_.__name__,
                    "only the unit of work can insert its rows: " + "; ".join(reasons),
                    'nothing need be done, unless Policy(strategy="native") or many '
                    "rows at once are to be faster; then take away what is named",
                )
