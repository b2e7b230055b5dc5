"""Say what an attribute name of a model stands for."""

import difflib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import FunctionType
from typing import Any, Final

from sqlalchemy import Column, MetaData, orm
from sqlalchemy.ext.hybrid import HybridExtensionType
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.sql import operators

from ..exceptions import UnknownFieldError
from .criteria import conjuncts
from .mapping import is_generated, memory

# Attributes of a class that are no values of its instances.
_NOT_VALUES: Final = (FunctionType, classmethod, staticmethod, MetaData, orm.registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What one name stands for, as the caller writes it."""

    name: str
    # The columns whose values an equality fixes; empty where only the SQL expression
    # can tell (hybrids).
    columns: tuple[Column[Any], ...] = ()
    # Whether a new row can be given it.
    is_settable: bool = True
    # Whether an equality can be prepared with bind parameters. If not (hybrids,
    # composites, custom comparators), the comparison is built from the value.
    is_plain: bool = False
    # Of a many-to-one relationship: the mapper of the other side, the name of the
    # attribute there that refers back, and where the values of `columns` stand in the
    # parent's identity, if the foreign key refers to its primary key.
    parent: orm.Mapper[Any] | None = None
    reverse: str | None = None
    key_positions: tuple[int, ...] = ()
    # Why a lookup by it cannot identify a row.
    obstacle: str | None = None


def lookup_fields(model: type[object], names: Sequence[str]) -> tuple[Field, ...]:
    """Return what *names* stand for in a lookup; refuse all that are unknown."""
    mapper = orm.class_mapper(model)
    fields = [_resolve(mapper, name) for name in names]
    found = tuple(field for field in fields if field is not None)
    if len(found) < len(names):
        pairs = zip(names, fields, strict=True)
        raise unknown_field(mapper, *(name for name, field in pairs if field is None))
    for field in found:
        if field.obstacle is not None:
            msg = (
                f"{model.__name__}.{field.name} {field.obstacle}, so it cannot "
                "identify a row; give it as a positional criterion, or look up by "
                "other attributes"
            )
            raise ValueError(msg)
    return found


def default_field(mapper: orm.Mapper[Any], name: str) -> Field | None:
    """Return what *name* stands for in the defaults; ``None``: nothing settable."""
    fields: dict[str, Field] = memory(mapper, "defaults", dict[str, Field])
    field = fields.get(name) or _resolve(mapper, name)
    if field is None:
        # It is not mapped: a property, or a plain attribute of the class. A name that
        # the class lacks counts as a property without a setter.
        found = inspect.getattr_static(mapper.class_, name, property())
        is_settable = not isinstance(found, _NOT_VALUES)
        if isinstance(found, property):
            is_settable = found.fset is not None
        field = Field(name=name, is_settable=is_settable)
    if not field.is_settable:
        # Not remembered: callers may pass any number of names that the model lacks.
        return None
    fields[name] = field
    return field


def unknown_field(mapper: orm.Mapper[Any], *names: str) -> UnknownFieldError:
    """Build the error for *names* that the model cannot take."""
    matches = chain.from_iterable(_matches(mapper, name) for name in names)
    return UnknownFieldError(mapper.class_, names, tuple(dict.fromkeys(matches)))


def _matches(mapper: orm.Mapper[Any], name: str) -> list[str]:
    by_column = [
        prop.key
        for prop in mapper.column_attrs
        if any(getattr(column, "name", None) == name for column in prop.columns)
    ]
    known: list[str] = [*mapper.all_orm_descriptors.keys()]
    if name in known:
        return []  # It is there, but takes no value, and so is not misspelt.
    return by_column or difflib.get_close_matches(name, known)


def _resolve(mapper: orm.Mapper[Any], name: str) -> Field | None:
    match mapper.attrs.get(name):
        case orm.SynonymProperty() as synonym:
            target = _resolve(mapper, synonym.name)
            return None if target is None else replace(target, name=name)
        case orm.ColumnProperty() as column:
            return _column_field(mapper, column)
        case orm.RelationshipProperty() as relationship:
            return _relationship_field(relationship)
        case orm.CompositeProperty() as composite:
            parts: Any = composite.props
            columns = tuple(c for part in parts for c in part.columns)
            settable = not any(map(is_generated, columns))
            return Field(name=name, columns=columns, is_settable=settable)
        case _:
            return _extension_field(mapper, name)


def _extension_field(mapper: orm.Mapper[Any], name: str) -> Field | None:
    """Return what a hybrid or an association proxy is: mapped, but not to a column."""
    descriptor: Any = mapper.all_orm_descriptors.get(name)
    if descriptor is None:
        return None
    if descriptor.extension_type is HybridExtensionType.HYBRID_PROPERTY:
        return Field(name=name, is_settable=descriptor.fset is not None)
    is_proxy = hasattr(descriptor, "__set__")
    return Field(name=name, is_settable=is_proxy, obstacle="is no column")


def _column_field(mapper: orm.Mapper[Any], prop: orm.ColumnProperty[Any]) -> Field:
    columns = tuple(c for c in prop.columns if isinstance(c, Column))
    if not columns:  # A column_property() of an SQL expression is read-only.
        return Field(name=prop.key, is_settable=False)
    attribute: Any = mapper.all_orm_descriptors[prop.key]
    return Field(
        name=prop.key,
        columns=columns,
        is_settable=not any(map(is_generated, columns)),
        is_plain=_is_stock(attribute.comparator) and _is_stock(columns[0].comparator),
    )


def _is_stock(comparator: object) -> bool:
    """Whether ``==`` means what SQLAlchemy says, whatever the value is."""
    # Another comparator may look at the value (to lower its case, say), and would see a
    # bind parameter in its place.
    stock = ("sqlalchemy.", "typing", "builtins")
    return all(base.__module__.startswith(stock) for base in type(comparator).__mro__)


def _relationship_field(prop: orm.RelationshipProperty[Any]) -> Field:
    if prop.viewonly or prop.uselist or prop.direction is not MANYTOONE:
        obstacle = "is a collection" if prop.uselist else "is no foreign key"
        return Field(name=prop.key, is_settable=not prop.viewonly, obstacle=obstacle)
    positions = _key_positions(prop)
    columns: Any = [local for local, _ in prop.local_remote_pairs or ()]
    return Field(
        name=prop.key,
        columns=tuple(columns),
        is_settable=not any(map(is_generated, columns)),
        is_plain=positions is not None,
        parent=prop.mapper,
        reverse=prop.back_populates,
        key_positions=positions or (),
    )


def _key_positions(prop: orm.RelationshipProperty[Any]) -> tuple[int, ...] | None:
    """Return where each local column's value stands in the parent's identity."""
    pairs = prop.local_remote_pairs or []
    comparisons = [getattr(c, "operator", None) for c in conjuncts(prop.primaryjoin)]
    # The join must say that foreign key = primary key, and no more.
    if comparisons != [operators.eq] * len(pairs):
        return None
    parent = prop.mapper
    key = [parent.get_property_by_column(column) for column in parent.primary_key]
    remote = [parent.get_property_by_column(column) for _, column in pairs]
    if any(p not in key for p in remote):
        return None
    return tuple(map(key.index, remote))
