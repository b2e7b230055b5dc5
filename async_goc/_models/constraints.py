"""Find the unique constraint that makes a lookup mean one row at most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from sqlalchemy import (
    Column,
    ColumnElement,
    Constraint,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import CompileError
from sqlalchemy.orm import Mapper

from .criteria import conjuncts, equality
from .mapping import memory


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique constraint or index, as one dialect sees it.

    Attributes:
        name: As the database reports it; ``None`` where the database chose it.
        table: The table that it belongs to.
        columns: The columns that are unique together.
        expressions: The indexed expressions that are not plain columns, as SQL.
        where: The conditions of a partial index, as SQL.
        is_null_equal: Whether two NULLs conflict (NULLS NOT DISTINCT).
    """

    name: str | None
    table: Any
    columns: frozenset[Column[Any]]
    expressions: tuple[str | None, ...] = ()
    where: tuple[str | None, ...] = ()
    is_null_equal: bool = False


# A condition's number, the columns that it gives a value to, and whether that is NULL.
_Fixed = tuple[int, Sequence[Column[Any]], bool]


def is_covered(
    mapper: Mapper[Any],
    conditions: Sequence[ColumnElement[bool]],
    dialect: Dialect | None,
) -> bool:
    """Whether a unique constraint sees to it that *conditions* mean one row at most.

    Args:
        mapper: The model's mapper.
        conditions: The lookup's conjuncts.
        dialect: The database's. ``None`` considers only what covers on any: full
            constraints, without conditions and expressions.
    """
    return covering(mapper, conditions, dialect) is not None


def covering(
    mapper: Mapper[Any],
    conditions: Sequence[ColumnElement[bool]],
    dialect: Dialect | None,
) -> tuple[Unique, list[ColumnElement[bool]]] | None:
    """Return the constraint that :func:`is_covered` asks for, and what fixes it."""
    fixed = list(_fixed(mapper, conditions))
    for unique in uniques_of(mapper, dialect):
        used = _used(unique, fixed, conditions, dialect)
        if used is not None:
            return unique, used
    return None


def uniques_of(mapper: Mapper[Any], dialect: Dialect | None) -> tuple[Unique, ...]:
    """Return the unique constraints that the model's tables declare."""
    key = ("uniques", dialect and dialect.name)
    return memory(mapper, key, lambda: tuple(_uniques(mapper, dialect)))


def conditions_on(
    unique: Unique,
    mapper: Mapper[Any],
    conditions: Sequence[ColumnElement[bool]],
    dialect: Dialect | None,
) -> list[ColumnElement[bool]] | None:
    """Return those of *conditions* that together fix *unique*; ``None``: not all."""
    return _used(unique, list(_fixed(mapper, conditions)), conditions, dialect)


def _used(
    unique: Unique,
    fixed: Sequence[_Fixed],
    conditions: Sequence[ColumnElement[bool]],
    dialect: Dialect | None,
) -> list[ColumnElement[bool]] | None:
    pinned = {
        column: number
        for number, columns, is_null in fixed
        for column in columns
        if unique.is_null_equal or not is_null
    }
    if not unique.columns <= pinned.keys():
        return None
    used = {pinned[column] for column in unique.columns}
    for wanted, found in (
        (unique.expressions, map(_compared, conditions)),
        (unique.where, conditions),
    ):
        texts = [sql_text(element, dialect) for element in found] if wanted else []
        for text in wanted:
            if text is None or text not in texts:
                return None
            used.add(texts.index(text))
    return [conditions[number] for number in sorted(used)]


def _fixed(
    mapper: Mapper[Any], conditions: Sequence[ColumnElement[bool]]
) -> Iterator[_Fixed]:
    """Yield the conditions that give columns one value."""
    for number, condition in enumerate(conditions):
        found = equality(condition)
        if found is not None and mapper.columns.contains_column(found.left):
            # Joined inheritance: one attribute, a column in each table.
            prop: Any = mapper.get_property_by_column(found.left)
            yield number, prop.columns, found.is_null


def _uniques(mapper: Mapper[Any], dialect: Dialect | None) -> Iterator[Unique]:
    tables: Any = mapper.tables
    for table in tables:
        if table.primary_key.columns:
            yield _from_constraint(table.primary_key, dialect)
        for constraint in table.constraints:
            # A deferrable one is checked too late to arbitrate.
            if isinstance(constraint, UniqueConstraint) and not constraint.deferrable:
                yield _from_constraint(constraint, dialect)
        for index in table.indexes:
            if index.unique and (dialect is not None or _is_full(index)):
                yield _from_index(index, dialect)


def _from_constraint(
    constraint: PrimaryKeyConstraint | UniqueConstraint, dialect: Dialect | None
) -> Unique:
    return Unique(
        name=_name(constraint),
        table=constraint.table,
        columns=frozenset(constraint.columns),
        is_null_equal=bool(_option(constraint, dialect, "nulls_not_distinct")),
    )


def _is_column(element: object) -> TypeGuard[Column[Any]]:
    return isinstance(element, Column)


def _is_full(index: Index) -> bool:
    """Whether it constrains every row, by its columns alone, on any database."""
    return all(map(_is_column, index.expressions)) and not any(
        option.endswith("_where") for option in index.dialect_kwargs
    )


def _from_index(index: Index, dialect: Dialect | None) -> Unique:
    option = _option(index, dialect, "where")
    where = () if option is None else (option,)
    terms: Any = index.expressions
    return Unique(
        name=_name(index),
        table=index.table,
        columns=frozenset(filter(_is_column, terms)),
        expressions=tuple(sql_text(e, dialect) for e in terms if not _is_column(e)),
        where=tuple(sql_text(e, dialect) for e in conjuncts(*where)),
        is_null_equal=bool(_option(index, dialect, "nulls_not_distinct")),
    )


def _name(constraint: Constraint | Index) -> str | None:
    # SQLAlchemy's own symbol stands for "named by convention, or not at all".
    return constraint.name if isinstance(constraint.name, str) else None


def _option(
    constraint: Constraint | Index, dialect: Dialect | None, option: str
) -> Any:
    if dialect is None:
        return None
    return constraint.dialect_kwargs.get(f"{dialect.name}_{option}")


def _compared(condition: ColumnElement[bool]) -> ColumnElement[Any] | None:
    found = equality(condition)
    return None if found is None or found.is_null else found.left


def sql_text(element: ColumnElement[Any] | None, dialect: Dialect | None) -> str | None:
    """Render as in an index definition, so that text() compares with expressions."""
    if element is None:
        return None
    how = {"literal_binds": True, "include_table": False}
    try:
        return str(element.compile(dialect=dialect, compile_kwargs=how))
    except CompileError:  # a value with no literal form: it matches nothing
        return None
