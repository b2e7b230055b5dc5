"""Compile a lookup's names into a statement, once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic
from uuid import UUID

from sqlalchemy import (
    BinaryExpression,
    Column,
    ColumnElement,
    Select,
    bindparam,
    select,
)
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.sql import operators

from .._databases import as_stored, stores_another
from .._models import (
    SQL,
    Field,
    T,
    columns_of,
    conjuncts,
    default_field,
    equality,
    has_joins,
    identity_of,
    is_alone,
    is_covered,
    lookup_fields,
    recall,
    recalled,
    remembered,
    replacing_none,
)

# The types of most values, which are no SQL.
_PLAIN: Final = frozenset({str, int, UUID, bool, bytes, float})


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Plan(Generic[T]):
    """All that is known of a lookup before its values: one for a model and names."""

    model: type[T]
    mapper: Mapper[T]
    # What the names stand for, in alphabetical order.
    fields: tuple[Field, ...]
    # What they ask for, with a bind parameter for each plain value.
    conditions: tuple[ColumnElement[bool], ...]
    # The SELECT. It compares the values as the columns store them.
    statement: Select[Any]
    # (parameter, name, position): which values the parameters take. The position is
    # the one in a parent's identity, or None where the value is no parent.
    binds: tuple[tuple[str, str, int | None], ...]
    # (parameter, name), if a row that is there is found by no more than the statement
    # and these: by plain values that a constraint covers, in one table.
    plain_binds: tuple[tuple[str, str], ...] | None
    # The fields whose comparison has to be built from the value, for each call.
    expressions: tuple[Field, ...]
    # The fields whose values are instances.
    parents: tuple[Field, ...]
    # The columns whose values the names fix.
    columns: frozenset[Column[Any]]
    # Whether two names fix the same column.
    has_overlap: bool
    # The columns, by attribute name, in which the lookup asks for NULL, and a flush
    # would not store it from None.
    nulls: frozenset[str]
    # Whether a full unique constraint covers the plain names.
    is_covered: bool
    # Whether the model, or a subclass, is loaded eagerly by joins, which repeat a row
    # for each member of a collection.
    is_joined: bool
    # How an update locks the row: in the model's own tables, because the other side of
    # an outer join cannot be locked.
    lock: dict[str, Any]
    # The lookups whose missing constraint has been warned about, by their hashes.
    warned: set[int]
    # The names, as long as no hit has shown whether to warn; empty if covered.
    unjudged: set[tuple[str, ...]]
    # The names of defaults that are legal, and cannot contradict the lookup.
    unrelated: set[str]


def plan_for(model: type[T], values: Mapping[str, Any]) -> Plan[T]:
    """Return the plan for these names; the values only say which are NULL or SQL."""
    make = partial(_compile, model, values)
    return known_plan(model, values) or recall(class_mapper(model), _key(values), make)


def known_plan(model: type[T], values: Mapping[str, Any]) -> Plan[T] | None:
    """Return the plan for these names, if there is one by now."""
    # It is read directly, because class_mapper() checks what has been checked once.
    given: Any = model
    try:
        mapper: Mapper[T] = given.__mapper__
    except AttributeError:
        return None
    # It may be inherited.
    return recalled(mapper, _key(values)) if mapper.class_ is model else None


def _key(values: Mapping[str, Any]) -> tuple[str, ...]:
    # A client that sends the names must not make a plan for each order of them. (Errors
    # about the names keep to the caller's.)
    names = values if len(values) == 1 else sorted(values)
    if _PLAIN.issuperset(map(type, values.values())):
        return ("plain", *names)
    kinds = [_kind(values[name]) for name in names]
    return ("plan", *names, *kinds) if {*kinds} - {"value"} else ("plain", *names)


def _kind(value: object) -> str:
    """Return that about a value which changes the SQL text."""
    if value is None:
        return "null"
    return "sql" if isinstance(value, SQL) else "value"


def _compile(model: type[T], values: Mapping[str, Any]) -> Plan[T]:
    mapper = class_mapper(model)
    known = lookup_fields(mapper.class_, tuple(values))
    fields = sorted(known, key=lambda field: field.name)
    conditions, expressions, binds = _compared(mapper, fields, values)
    columns = [column for field in fields for column in field.columns]
    has_overlap, is_joined = len(set(columns)) < len(columns), has_joins(mapper)
    covered = is_covered(mapper, conditions, dialect=None)
    parents = tuple(field for field in fields if field.parent is not None)
    is_more = parents or expressions or has_overlap or is_joined
    is_plain = covered and not is_more and is_alone(mapper)
    statement = select(mapper.class_).where(*stored_criteria(mapper, conditions))
    return Plan(
        mapper.class_,
        mapper,
        tuple(fields),
        tuple(conditions),
        # One row more than wanted shows the duplicates, without reading them all.
        statement if covered else statement.limit(2),
        tuple(binds),
        tuple((parameter, name) for parameter, name, _ in binds) if is_plain else None,
        tuple(expressions),
        parents,
        frozenset(columns),
        has_overlap,
        nulls_of(mapper, conditions),
        covered,
        is_joined,
        {"of": tuple(mapper.tables)},
        warned=set(),
        unjudged=set() if covered else {tuple(values)},
        unrelated=set(),
    )


def _compared(
    mapper: Mapper[Any], fields: Iterable[Field], values: Mapping[str, Any]
) -> tuple[list[ColumnElement[bool]], list[Field], list[tuple[str, str, int | None]]]:
    conditions, expressions = list[ColumnElement[bool]](), list[Field]()
    binds: list[tuple[str, str, int | None]] = []
    for field in fields:
        kind = _kind(values[field.name])
        if not field.is_plain or kind == "sql":
            expressions.append(field)
        elif kind == "null":
            conditions += plain_conditions(mapper, field, None)
        else:
            for attribute, position in _places(mapper, field):
                parameter = f"lookup_{field.name}_{position or 0}"
                # It has the column's type, so what can be stored can be looked up.
                value = bindparam(parameter, type_=attribute.type)
                conditions.append(attribute == value)
                binds.append((parameter, field.name, position))
    return conditions, expressions, binds


def _places(mapper: Mapper[Any], field: Field) -> Iterator[tuple[Any, int | None]]:
    """Yield the attributes to compare, each with its place in a parent's identity."""
    if field.parent is None:
        yield getattr(mapper.class_, field.name), None
        return
    for column, position in zip(field.columns, field.key_positions, strict=True):
        yield mapper.get_property_by_column(column).class_attribute, position


def plain_conditions(
    mapper: Mapper[Any], field: Field, value: Any
) -> list[ColumnElement[bool]]:
    identity = () if field.parent is None or value is None else identity_of(value)
    return [
        attribute
        == (identity[position] if identity and position is not None else value)
        for attribute, position in _places(mapper, field)
    ]


def nulls_of(
    mapper: Mapper[Any], conditions: Iterable[ColumnElement[bool]]
) -> frozenset[str]:
    """Return the columns that *conditions* want NULL, and None would not make so."""
    compared = filter(None, map(equality, conditions))
    return replacing_none(mapper).intersection(
        mapper.get_property_by_column(found.left).key
        for found in compared
        if found.is_null and mapper.columns.contains_column(found.left)
    )


def stored_criteria(
    mapper: Mapper[Any], criteria: Iterable[ColumnElement[bool]]
) -> Iterator[ColumnElement[bool]]:
    """Yield the criteria, with the values of equalities as the columns store them."""
    if not _stores_others(mapper):
        yield from criteria
        return
    for condition in conjuncts(*criteria):
        found = equality(condition)
        left: Any = None if found is None or found.is_null else found.left
        is_column = found is not None and issubclass(left.__class__, Column)
        if found is None or not is_column or not stores_another(left.type):
            yield condition
        else:
            # Not `==`: a comparator of the column's own has been asked already.
            stored = as_stored(left.type, found.right)
            yield BinaryExpression(left, stored, operators.eq)


@remembered
def _stores_others(mapper: Mapper[Any]) -> bool:
    """Whether a column of the model may store another value than it is given."""
    return any(stores_another(c.type) for c in columns_of(mapper).values())


def pins_of(mapper: Mapper[Any], name: str, value: Any) -> dict[Any, Any]:
    """Return the column values that an attribute value stands for, if known."""
    field = default_field(mapper, name)
    if field is None or not field.columns:
        return {}
    if field.parent is not None and value is not None and not identity_of(value):
        return {}
    conditions = (
        plain_conditions(mapper, field, value)
        if field.is_plain
        else conjuncts(getattr(mapper.class_, name) == value)
    )
    equalities = filter(None, map(equality, conditions))
    return {found.left: found.value for found in equalities}
