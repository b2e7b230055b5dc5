"""Say what an attribute name of a model stands for."""

import difflib
import inspect
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, Final

from sqlalchemy import Column, MetaData
from sqlalchemy.ext.hybrid import HybridExtensionType
from sqlalchemy.orm import (
    ColumnProperty,
    CompositeProperty,
    Mapper,
    RelationshipProperty,
    SynonymProperty,
    class_mapper,
    registry,
)
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.sql import operators

from ..exceptions import UnknownFieldError
from .criteria import conjuncts
from .mapping import memory

_MISSING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What one name stands for.

    Attributes:
        name: The name as the caller writes it.
        columns: The columns whose values an equality on it fixes; empty where
            only the SQL expression can tell (hybrids).
        is_settable: Whether a new row can be given it.
        is_plain: Whether an equality can be prepared with bind parameters; if
            not, the comparison is built from the value (hybrids, composites,
            custom comparators).
        parent: The mapper of the other side, for a many-to-one relationship.
        reverse: The name of the attribute there that refers back.
        key_positions: Where the values of *columns* stand in the parent's
            identity, for a plain many-to-one.
        obstacle: Why a lookup by it cannot identify a row.
    """

    name: str
    columns: tuple[Column[Any], ...] = ()
    is_settable: bool = True
    is_plain: bool = False
    parent: Mapper[Any] | None = None
    reverse: str | None = None
    key_positions: tuple[int, ...] = ()
    obstacle: str | None = None


def lookup_field(model: type[object], name: str) -> Field:
    """Return what *name* stands for in a lookup.

    Raises:
        UnknownFieldError: It is no mapped attribute.
        ValueError: It is one that cannot identify a row.
    """
    mapper = class_mapper(model)
    field = _resolve(mapper, name)  # once for each plan
    if field is None:
        raise unknown_field(mapper, name)
    if field.obstacle is not None:
        msg = (
            f"{model.__name__}.{name} {field.obstacle}, so it cannot identify a row; "
            "give it as a positional criterion, or look up by other attributes"
        )
        raise ValueError(msg)
    return field


def default_field(mapper: Mapper[Any], name: str) -> Field | None:
    """Return what *name* stands for in the defaults; ``None``: nothing settable."""
    fields: dict[str, Field] = memory(mapper, "defaults", dict[str, Field])
    field = fields.get(name) or _resolve_default(mapper, name)
    if field is not None:  # Names that the model lacks are not worth remembering.
        fields[name] = field
    return field


def unknown_field(mapper: Mapper[Any], name: str) -> UnknownFieldError:
    """Build the error for a *name* that the model cannot take."""
    by_column = [
        prop.key
        for prop in mapper.column_attrs
        if any(getattr(column, "name", None) == name for column in prop.columns)
    ]
    close = difflib.get_close_matches(name, mapper.all_orm_descriptors.keys())
    return UnknownFieldError(mapper.class_, name, by_column or close)


def _resolve_default(mapper: Mapper[Any], name: str) -> Field | None:
    field = _resolve(mapper, name)
    if field is None:
        # Not mapped: a property with a setter, or a plain class attribute.
        found = inspect.getattr_static(mapper.class_, name, _MISSING)
        not_values = (FunctionType, classmethod, staticmethod, MetaData, registry)
        is_settable = found is not _MISSING and not isinstance(found, not_values)
        if isinstance(found, property):
            is_settable = found.fset is not None
        return Field(name=name) if is_settable else None
    return field if field.is_settable else None


def _resolve(mapper: Mapper[Any], name: str) -> Field | None:
    match mapper.attrs.get(name):
        case SynonymProperty() as synonym:
            target = _resolve(mapper, synonym.name)
            return None if target is None else replace(target, name=name)
        case ColumnProperty() as column:
            return _column_field(mapper, column)
        case RelationshipProperty() as relationship:
            return _relationship_field(relationship)
        case CompositeProperty() as composite:
            parts: Any = composite.props
            columns = tuple(c for part in parts for c in part.columns)
            return Field(name=name, columns=columns)
        case _:
            return _extension_field(mapper, name)


def _extension_field(mapper: Mapper[Any], name: str) -> Field | None:
    """Hybrids and association proxies: mapped, but not to a column."""
    descriptor: Any = mapper.all_orm_descriptors.get(name)
    if descriptor is None:
        return None
    if descriptor.extension_type is HybridExtensionType.HYBRID_PROPERTY:
        return Field(name=name, is_settable=descriptor.fset is not None)
    is_proxy = hasattr(descriptor, "__set__")
    return Field(name=name, is_settable=is_proxy, obstacle="is no column")


def _column_field(mapper: Mapper[Any], prop: ColumnProperty[Any]) -> Field:
    columns = tuple(c for c in prop.columns if isinstance(c, Column))
    if not columns:  # column_property(an SQL expression): read-only
        return Field(name=prop.key, is_settable=False)
    attribute: Any = mapper.all_orm_descriptors[prop.key]
    return Field(
        name=prop.key,
        columns=columns,
        is_plain=_is_stock(attribute.comparator) and _is_stock(columns[0].comparator),
    )


def _is_stock(comparator: object) -> bool:
    """Whether ``==`` means what SQLAlchemy says, whatever the value is."""
    # A comparator of somebody else may look at the value (to lower its case, say),
    # and would see a bind parameter instead.
    ours = ("sqlalchemy.", "typing", "builtins")
    return all(base.__module__.startswith(ours) for base in type(comparator).__mro__)


def _relationship_field(prop: RelationshipProperty[Any]) -> Field:
    if prop.viewonly or prop.uselist or prop.direction is not MANYTOONE:
        obstacle = "is a collection" if prop.uselist else "is no foreign key"
        return Field(name=prop.key, is_settable=not prop.viewonly, obstacle=obstacle)
    positions = _key_positions(prop)
    columns: Any = [local for local, _ in prop.local_remote_pairs or ()]
    return Field(
        name=prop.key,
        columns=tuple(columns),
        is_plain=positions is not None,
        parent=prop.mapper,
        reverse=prop.back_populates,
        key_positions=positions or (),
    )


def _key_positions(prop: RelationshipProperty[Any]) -> tuple[int, ...] | None:
    """Where each local column's value stands in the parent's identity.

    ``None`` where the join is more than foreign key = primary key.
    """
    pairs = prop.local_remote_pairs or []
    comparisons = [*conjuncts(prop.primaryjoin)]
    if len(comparisons) != len(pairs) or any(
        getattr(comparison, "operator", None) is not operators.eq
        for comparison in comparisons
    ):
        return None
    parent = prop.mapper
    key = [parent.get_property_by_column(column) for column in parent.primary_key]
    remote = [parent.get_property_by_column(column) for _, column in pairs]
    if any(p not in key for p in remote):
        return None
    return tuple(map(key.index, remote))
