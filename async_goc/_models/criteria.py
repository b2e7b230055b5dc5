"""Take SQL criteria apart: conjuncts, and equalities with a value."""

import operator
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import sqlalchemy as sa
from sqlalchemy.sql import operators, roles
from sqlalchemy.sql.elements import SQLCoreOperations

# What type checkers let through: all that `select().where()` takes, and `bool`, because
# SQLModel types a comparison of its attributes so. A real boolean is a TypeError.
Criterion: TypeAlias = (
    sa.ColumnElement[bool]
    | SQLCoreOperations[bool]
    | roles.ExpressionElementRole[bool]
    | bool
)

# What is an SQL expression, as opposed to a value.
SQL: Final = (sa.ClauseElement, SQLCoreOperations)

_EQUALITIES: Final = (operators.eq, operators.is_)
_CONSTANTS: Final[dict[Any, Any]] = {sa.Null: None, sa.True_: True, sa.False_: False}
_VALUES: Final = (sa.BindParameter, *_CONSTANTS)


class Equality(NamedTuple):
    """``left = value``, or ``left IS NULL``."""

    # A column, or any other expression.
    left: Any
    # The bind parameter or constant that holds the value.
    right: Any

    @property
    def is_null(self) -> bool:
        """Whether it says IS NULL."""
        return isinstance(self.right, sa.Null)

    @property
    def is_ready(self) -> bool:
        """Whether the value is known before the session has been flushed."""
        # A comparison with a parent object reads its key only when it is executed.
        return getattr(self.right, "callable", None) is None

    @property
    def value(self) -> Any:
        """The value compared with."""
        # Its class may be another one, which SQLAlchemy has derived from this one.
        for kind, value in _CONSTANTS.items():
            if isinstance(self.right, kind):
                return value
        return self.right.effective_value


def conjuncts(*criteria: Any) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions that are joined by AND."""
    for criterion in criteria:
        kind: Any = criterion.__class__
        if issubclass(kind, sa.Grouping):
            yield from conjuncts(criterion.element)
        elif issubclass(kind, sa.BooleanClauseList) and (
            criterion.operator is operators.and_
        ):
            yield from conjuncts(*criterion.clauses)
        else:
            yield criterion


def equality(condition: sa.ColumnElement[bool]) -> Equality | None:
    """Return *condition* as an equality with a value, if it is one."""
    if not isinstance(condition, sa.BinaryExpression):
        return None
    left, right, operator = condition.left, condition.right, condition.operator
    if operator in _EQUALITIES and isinstance(right, _VALUES):
        return Equality(left, right)
    # SQLAlchemy compares a relationship with an instance the other way round.
    is_reversed = operator is operators.eq and isinstance(left, sa.BindParameter)
    return Equality(right, left) if is_reversed else None


def differs(one: object, other: object, column: Any = None) -> bool:
    """Whether two values are known to be no value of one attribute, of that column."""
    one, other = (None if isinstance(v, sa.Null) else v for v in (one, other))
    if one is other:
        return False
    # An SQL expression differs from everything: only the database knows its value.
    if one is None or other is None or isinstance(one, SQL) or isinstance(other, SQL):
        return True
    compare: Any = operator.eq if column is None else column.type.compare_values
    try:
        return not compare(one, other)
    except Exception:  # noqa: BLE001 - arrays, say: their comparison has no truth value
        return False
