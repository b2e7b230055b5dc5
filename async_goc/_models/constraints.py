"""Find the unique constraint that makes a lookup mean one row at most."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from .criteria import equality
from .mapping import memory
from .texts import conditions_of, sql_text, term_of


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique constraint or index, as one dialect sees it."""

    # As the database reports it; `None` where the database chose it.
    name: str | None
    table: Any
    # The plain columns that are unique together.
    columns: frozenset[sa.Column[Any]]
    # The indexed expressions that are not plain columns, and the conditions of a
    # partial index, as SQL; `None` where there is no text to compare with.
    expressions: tuple[str | None, ...] = ()
    where: tuple[str | None, ...] = ()
    # Whether two NULLs conflict (NULLS NOT DISTINCT).
    is_null_equal: bool = False
    # How values conflict that are not equal, by column name (exclusion constraints).
    operators: Mapping[str, str] = field(default_factory=dict[str, str])


_Declared = sa.PrimaryKeyConstraint | sa.UniqueConstraint | sa.Index
_Conditions = Sequence[sa.ColumnElement[bool]]


def is_covered(
    mapper: Mapper[Any], conditions: _Conditions, dialect: sa.Dialect | None
) -> bool:
    """Whether a unique constraint lets *conditions* match one row at most."""
    return covering(mapper, conditions, dialect) is not None


def covering(
    mapper: Mapper[Any], conditions: _Conditions, dialect: sa.Dialect | None
) -> tuple[Unique, _Conditions] | None:
    """Return the constraint that covers *conditions*, and those that fix it."""
    for unique in uniques_of(mapper, dialect):
        used = conditions_on(unique, mapper, conditions, dialect)
        if used is not None:
            return unique, used
    return None


def uniques_of(mapper: Mapper[Any], dialect: sa.Dialect | None) -> tuple[Unique, ...]:
    """Return the unique constraints that the model's tables declare."""
    # Without a dialect, only those that hold on every database: constraints, and
    # indexes without conditions and expressions.
    key = ("uniques", dialect and dialect.name)
    return memory(mapper, key, lambda: tuple(_uniques(mapper, dialect)))


def exclusion(table: Any, name: str) -> Unique | None:
    """Return the exclusion constraint of that name, if it is one of whole columns."""
    for declared in table.constraints:
        operators: Mapping[str, str] | None = getattr(declared, "operators", None)
        if operators and declared.name == name and declared.where is None:
            columns = frozenset(declared.columns)
            return Unique(name, table, columns, operators=operators)
    return None


def conditions_on(
    unique: Unique,
    mapper: Mapper[Any],
    conditions: _Conditions,
    dialect: sa.Dialect | None,
) -> _Conditions | None:
    """Return those of *conditions* that fix all of *unique*; ``None``: they do not."""
    pinned = {
        column: number
        for number, columns, is_null in _fixed(mapper, conditions)
        for column in columns
        if unique.is_null_equal or not is_null
    }
    if not unique.columns <= pinned.keys():
        return None
    used = {pinned[column] for column in unique.columns}
    for wanted, texts_of in ((unique.expressions, _terms), (unique.where, _conditions)):
        places = {
            text: number
            for number, condition in enumerate(conditions if wanted else ())
            for text in texts_of(condition, dialect)
        }
        for text in wanted:
            if text is None or text not in places:
                return None
            used.add(places[text])
    return [conditions[number] for number in sorted(used)]


def _fixed(
    mapper: Mapper[Any], conditions: _Conditions
) -> Iterator[tuple[int, Sequence[sa.Column[Any]], bool]]:
    """Yield each condition's number, the columns it fixes, and whether to NULL."""
    for number, condition in enumerate(conditions):
        found = equality(condition)
        if found is not None and mapper.columns.contains_column(found.left):
            # In joined inheritance, one attribute may have a column in each table.
            prop: Any = mapper.get_property_by_column(found.left)
            yield number, prop.columns, found.is_null


def _uniques(mapper: Mapper[Any], dialect: sa.Dialect | None) -> Iterator[Unique]:
    tables: Any = mapper.tables
    for table in tables:
        if table.primary_key.columns:
            yield unique_of(table.primary_key, dialect)
        for constraint in table.constraints:
            # A deferrable constraint may be checked long after the INSERT, which then
            # does not tell which of two rows came first.
            if (
                isinstance(constraint, sa.UniqueConstraint)
                and not constraint.deferrable
            ):
                yield unique_of(constraint, dialect)
        for index in table.indexes:
            if index.unique and (dialect is not None or _is_full(index)):
                yield unique_of(index, dialect)


def _is_column(element: object) -> TypeGuard[sa.Column[Any]]:
    return isinstance(element, sa.Column)


def _is_full(index: sa.Index) -> bool:
    """Whether it constrains every row, by columns alone, on any database."""
    return all(map(_is_column, index.expressions)) and not any(
        option.endswith("_where") for option in index.dialect_kwargs
    )


def unique_of(declared: _Declared, dialect: sa.Dialect | None) -> Unique:
    """Return what a constraint or a unique index makes unique."""
    # Only an index may have expressions among its columns.
    terms: Any = getattr(declared, "expressions", declared.columns)
    where = _option(declared, dialect, "where")
    conditions = () if where is None else conditions_of(sql_text(where, dialect))
    # An index may name a column by text, or say in which order to keep it.
    table: Any = declared.table
    names = {column.name: column for column in table.columns}
    columns: set[sa.Column[Any]] = set()
    expressions: list[str | None] = []
    for term in terms:
        text = None if _is_column(term) else term_of(sql_text(term, dialect))
        column = term if _is_column(term) else names.get(text or "")
        if column is None:
            expressions.append(text)
        else:
            columns.add(column)
    return Unique(
        # SQLAlchemy's own symbol stands for "named by convention, or not at all".
        name=declared.name if isinstance(declared.name, str) else None,
        table=table,
        columns=frozenset(columns),
        expressions=tuple(expressions),
        where=tuple(conditions),
        is_null_equal=bool(_option(declared, dialect, "nulls_not_distinct")),
    )


def _option(declared: _Declared, dialect: sa.Dialect | None, option: str) -> Any:
    return dialect and declared.dialect_kwargs.get(f"{dialect.name}_{option}")


def _terms(
    condition: sa.ColumnElement[bool], dialect: sa.Dialect | None
) -> Sequence[str | None]:
    """Return the expression that is compared with a value, if the condition is that."""
    found = equality(condition)
    if found is None or found.is_null:
        return []
    return [term_of(sql_text(found.left, dialect))]


def _conditions(condition: Any, dialect: sa.Dialect | None) -> Sequence[str | None]:
    return conditions_of(sql_text(condition, dialect))
