"""Say which columns a lookup is about, and what may change them."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple
from weakref import ref

from sqlalchemy import SelectBase, Table, TextClause
from sqlalchemy.orm import Mapper, MapperProperty, RelationshipProperty
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.functions import FunctionElement

from .._lookup import Lookup
from .._models import conjuncts, default_field, equality, identity_of, memory, recall


def names_of(lookup: Lookup[Any], mapper: Mapper[Any]) -> frozenset[str] | None:
    """Return the attributes of *mapper* that say whether the lookup finds a row of it.

    ``None``: there is more to it than the row's own columns.
    """
    if not isinstance(mapper.local_table, Table):
        return None  # A mapped SELECT has conditions of its own.
    elements: list[Any] = [lookup.statement.whereclause]
    model = lookup.plan.mapper
    # A row of another kind is not found.
    is_kind = model.inherits is not None and not model.concrete
    if is_kind and model.polymorphic_on is not None:
        elements.append(model.polymorphic_on)
    names: set[str] = set()
    sources: Iterable[Any] = filter(_is_source, chain(*map(visitors.iterate, elements)))
    for source in sources:
        # Of a concrete subclass, the columns are others.
        if not mapper.columns.contains_column(source):
            return None
        names.add(mapper.get_property_by_column(source).key)
    return frozenset(names)


def _is_source(element: object) -> bool:
    """Whether an expression takes a value from it that was not given as such."""
    # A function of nothing, such as now(), answers as it likes.
    is_constant = isinstance(element, FunctionElement) and not len(element.clauses)
    return is_constant or isinstance(element, ColumnClause | TextClause | SelectBase)


def values_of(
    lookup: Lookup[Any], mapper: Mapper[Any]
) -> Iterator[tuple[MapperProperty[Any], Any]]:
    """Yield the attributes of *mapper* for which the lookup has a value, and that."""
    for column, value in _compared(lookup):
        if mapper.columns.contains_column(column):
            yield mapper.get_property_by_column(column), value


def _compared(lookup: Lookup[Any]) -> Iterator[tuple[Any, Any]]:
    for field in lookup.plan.fields:
        value = lookup.values[field.name]
        if field.is_plain and field.parent is None:
            yield field.columns[0], value
        elif field.is_plain:
            identity = None if value is None else identity_of(value)
            for column, place in zip(field.columns, field.key_positions, strict=True):
                yield column, None if identity is None else identity[place]
    for found in filter(None, map(equality, conjuncts(*lookup.criteria))):
        if found.is_ready:
            yield found.left, found.value


# A reference is equal to no other object's, and comparing two makes no SQL.
_Refs = frozenset[ref[Any]]


class _Relations(NamedTuple):
    """What the relationships of some models do to rows of others in a flush."""

    models: _Refs
    # The columns that they fill in.
    filled: _Refs
    # The models whose orphans they delete.
    orphaned: _Refs
    # The tables whose rows they insert and delete.
    secondary: _Refs


def _relations(mapper: Mapper[Any]) -> _Relations:
    # Models are mapped, and dropped, at any time. So the newest answer is kept, and it
    # keeps no model alive.
    known: list[_Relations] = memory(mapper, "relations", list[_Relations])
    mappers = mapper.registry.mappers
    models = _refs(mappers)
    found = known[0] if known else None
    if found is None or found.models != models:
        each: list[RelationshipProperty[Any]] = [
            prop
            for other in mappers
            for prop in other.relationships
            if not prop.viewonly
        ]
        found = _Relations(
            models,
            _refs(column for prop in each for _, column in prop.synchronize_pairs),
            _refs(prop.mapper for prop in each if prop.cascade.delete_orphan),
            _refs(prop.secondary for prop in each if prop.secondary is not None),
        )
        known[:] = [found]
    return found


def _refs(things: Iterable[Any]) -> _Refs:
    return frozenset(map(ref, things))


def unrelated(
    model: Mapper[Any], mapper: Mapper[Any], names: frozenset[str]
) -> frozenset[str]:
    """Return what may be set in a new row of *model*, whatever *names* are to be."""

    def find() -> frozenset[str]:
        related = {c for name in names for c in mapper.attrs[name].columns}
        known: Any = model.all_orm_descriptors.keys()
        fields = filter(None, (default_field(model, name) for name in known))
        # What has no columns, such as a hybrid, may set any.
        return frozenset(
            f.name for f in fields if f.columns and related.isdisjoint(f.columns)
        )

    return recall(mapper, ("unrelated", ref(model), names), find)


def is_beyond_control(mapper: Mapper[Any], names: Iterable[str]) -> bool:
    """Whether rows come, go, or change these columns, without their objects."""
    attributes: Iterable[Any] = map(mapper.attrs.__getitem__, names)
    return ref(mapper.local_table) in _relations(mapper).secondary or any(
        # The row that a key refers to may be changed by anything, in any flush.
        (key.onupdate or "NO ACTION").upper() not in {"NO ACTION", "RESTRICT"}
        for attribute in attributes
        for column in attribute.columns
        for key in column.foreign_keys
    )


def may_follow(mapper: Mapper[Any], names: Iterable[str]) -> bool:
    """Whether a flush may change them, or delete the row, though nothing set them."""
    _, filled, orphaned, _ = _relations(mapper)
    attributes: Iterable[Any] = map(mapper.attrs.__getitem__, names)
    parents = map(ref, mapper.iterate_to_root())
    return not orphaned.isdisjoint(parents) or any(
        ref(column) in filled
        or column.foreign_keys
        # Generated columns are among these.
        or column.onupdate is not None
        or column.server_onupdate is not None
        or column is mapper.version_id_col
        for attribute in attributes
        for column in attribute.columns
    )
