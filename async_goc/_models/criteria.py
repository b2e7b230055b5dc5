"""Take SQL criteria apart: conjuncts, and equalities with a value."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, False_, Null, True_
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    Grouping,
    SQLCoreOperations,
)

SQL: Final = (ClauseElement, SQLCoreOperations)
"""What is an SQL expression, as opposed to a value."""

_EQUALITIES: Final = (operators.eq, operators.is_)
_CONSTANTS: Final[dict[type[object], bool | None]] = {
    Null: None,
    True_: True,
    False_: False,
}


class Equality(NamedTuple):
    """``left = value``, or ``left IS NULL``.

    Attributes:
        left: A column, or any other expression.
        right: The bind parameter or constant that holds the value.
    """

    left: Any
    right: Any

    @property
    def is_null(self) -> bool:
        """Whether it says IS NULL."""
        return isinstance(self.right, Null)

    @property
    def is_ready(self) -> bool:
        """Whether the value is known before the session has been flushed."""
        # A comparison with a parent object reads its key when it is executed.
        return getattr(self.right, "callable", None) is None

    @property
    def value(self) -> Any:
        """The value compared with."""
        kind = _type(self.right)
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        return self.right.effective_value


def conjuncts(*criteria: Any) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions that are joined by AND."""
    for criterion in criteria:
        kind = _type(criterion)
        if issubclass(kind, Grouping):
            yield from conjuncts(criterion.element)
        elif issubclass(kind, BooleanClauseList) and (
            criterion.operator is operators.and_
        ):
            yield from conjuncts(*criterion.clauses)
        else:
            yield criterion


def equality(condition: ColumnElement[bool]) -> Equality | None:
    """Return *condition* as an equality with a value, if it is one."""
    if (
        isinstance(condition, BinaryExpression)
        and condition.operator in _EQUALITIES
        and isinstance(condition.right, (BindParameter, Null, True_, False_))
    ):
        return Equality(condition.left, condition.right)
    if (
        isinstance(condition, BinaryExpression)
        and condition.operator is operators.eq
        and isinstance(condition.left, BindParameter)
    ):
        # SQLAlchemy compares a relationship with an instance this way round.
        return Equality(condition.right, condition.left)
    return None


def _type(value: object) -> type[object]:
    return type(value)


def differs(one: object, other: object) -> bool:
    """Whether two values cannot both be the value of one attribute.

    An SQL expression differs from everything: only the database knows its value.
    """
    if one is other:
        return False
    return isinstance(one, SQL) or isinstance(other, SQL) or bool(one != other)
