"""Compare unique keys: what the models declare, and what the database has."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from .._databases import StoredKey
from .._models import conditions_of, term_of, unique_of

_FOLDED: Final = re.compile(r'(?:lower|upper) \( "?([^"()]+?)"? \)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Columns and expressions that are unique together, where conditions hold.

    Texts of SQL are in the one spelling in which they can be compared; ``None`` is one
    that has no text.
    """

    name: str | None
    columns: frozenset[str]
    expressions: frozenset[str | None] = frozenset()
    where: frozenset[str | None] = frozenset()
    is_null_equal: bool = False
    is_primary: bool = False

    def __str__(self) -> str:
        terms = [*sorted(self.columns), *sorted(map(_readable, self.expressions))]
        conditions = " and ".join(sorted(map(_readable, self.where)))
        return ", ".join(terms) + (f" where {conditions}" if conditions else "")

    @property
    def folded(self) -> frozenset[str]:
        """The columns of which only a form without case is unique."""
        return frozenset(each[1] for each in _folds(self.expressions) if each)

    def implies(self, other: "Key") -> bool:
        """Whether it allows no two rows that the other one forbids."""
        # Texts that are equal have equal forms without case.
        added = _folds(self.expressions - other.expressions)
        columns = self.columns | {each[1] for each in added if each}
        return (
            all(added)
            and columns <= other.columns
            and None not in self.where
            and self.where <= other.where
            and (self.is_null_equal or not other.is_null_equal)
        )

    def is_respelled(self, other: "Key") -> bool:
        """Whether it has the other's name, and may be the same in other words."""
        return (
            self.name is not None
            and self.name == other.name
            and self.columns == other.columns
            and len(self.expressions) == len(other.expressions)
            and bool(self.where) == bool(other.where)
            and bool(self.expressions | self.where)
        )

    def stands_for(self, other: "Key") -> bool:
        """Whether the other one is certain, or likely, to be no more than this."""
        return self.implies(other) or self.is_respelled(other)


# What declares a key. SQLAlchemy's classes have no base of their own in common.
Declaring = sa.PrimaryKeyConstraint | sa.UniqueConstraint | sa.Index


def declarations(table: sa.Table) -> Iterator[Declaring]:
    """Yield what makes rows of the table unique."""
    if table.primary_key.columns:
        yield table.primary_key
    for constraint in sorted(table.constraints, key=_order):
        if isinstance(constraint, sa.UniqueConstraint):
            yield constraint
    yield from sorted((i for i in table.indexes if i.unique), key=_order)


def _order(declared: Any) -> tuple[str, str]:
    columns = ",".join(column.name for column in getattr(declared, "columns", ()))
    return str(declared.name or ""), columns


def declared_key(declared: Declaring, dialect: sa.Dialect) -> Key:
    """Return what it declares on that database."""
    unique = unique_of(declared, dialect)
    is_nullable = any(column.nullable for column in unique.columns)
    return Key(
        name=unique.name,
        columns=frozenset(column.name for column in unique.columns),
        expressions=frozenset(unique.expressions),
        where=frozenset(unique.where),
        is_null_equal=unique.is_null_equal and is_nullable,
        is_primary=isinstance(declared, sa.PrimaryKeyConstraint),
    )


def stored_key(stored: StoredKey) -> Key:
    """Return what the database says."""
    where = () if stored.where is None else conditions_of(str(stored.where))
    return Key(
        name=stored.name,
        columns=frozenset(stored.columns),
        expressions=frozenset(map(term_of, stored.expressions)),
        where=frozenset(where),
        is_null_equal=stored.is_null_equal,
        is_primary=stored.is_primary,
    )


def _folds(texts: Iterable[str | None]) -> list[re.Match[str] | None]:
    return [_FOLDED.fullmatch(text or "") for text in texts]


def _readable(text: str | None) -> str:
    return "…" if text is None else text.replace(" ( ", "(").replace(" )", ")")
