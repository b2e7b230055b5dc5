"""Store parents in foreign key columns, where a flush would do no more than that."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Mapper, RelationshipProperty, Session
from sqlalchemy.orm.attributes import instance_state

from .._models import default_field, identity_of, remembered
from .._new_row import is_argument

Values = Mapping[str, Any]

# What of the cascade concerns a new row whose parent is in the session: nothing.
_HARMLESS: Final = frozenset({"save-update", "merge"})
# The modules whose listeners bring the two sides of a relationship into line.
_STOCK: Final = frozenset({"sqlalchemy.orm.attributes", "sqlalchemy.orm.unitofwork"})
_UPDATE_EVENTS: Final = ("before_update", "after_update")


@dataclass(frozen=True, slots=True)
class _Parent:
    """A many-to-one relationship whose foreign key is the parent's primary key."""

    kind: type[Any]
    # The columns' attributes, and where their values stand in the parent's identity.
    columns: tuple[tuple[str, int], ...]
    # The parent's collection that shows the new row.
    collection: str | None
    # Whether they are part of the row's own key, which a flush does not set to NULL.
    is_key: bool


def parents_among(mapper: Mapper[Any], names: Collection[str]) -> Collection[str]:
    """Return those of the names that stand for such relationships."""
    return _parents(mapper).keys() & names


def obstacles_to_parents(
    session: Session, mapper: Mapper[Any], values: Values
) -> Iterator[str]:
    """Yield the reasons why only a flush can store the parents among *values*."""
    known = _parents(mapper)
    names = parents_among(mapper, values.keys())
    filled = [column for name in names for column, _ in known[name].columns]
    if len({*filled, *values}) < len(filled) + len(values):
        yield "two of its values are stored in one column"
    for name in names:
        if not _is_unheard(mapper.class_manager[name].dispatch.set):
            yield f"somebody listens to {name}"
        if values[name] is not None:
            yield from _obstacles_to(session, known[name], name, values[name])
        elif known[name].is_key:
            yield f"its key is made of {name}, which is None"


def _obstacles_to(
    session: Session, known: _Parent, name: str, parent: object
) -> Iterator[str]:
    state: Any = instance_state(parent) if isinstance(parent, known.kind) else None
    if state is None or not state.persistent or state.session is not session:
        yield f"{name} is not persistent in the session"
    elif state.expired:
        yield f"{name} has expired"  # A flush loads it.
    elif known.collection is not None:
        # A flush puts the new row into it, and tells those that listen; the parent is
        # one of the objects that it writes, although nothing of it has changed.
        if known.collection in state.dict:
            yield f"the {known.collection} of {name} are loaded"
        if not _is_unheard(state.manager[known.collection].dispatch.append):
            yield f"somebody listens to the {known.collection} of {name}"
        for heard in _UPDATE_EVENTS:
            if getattr(state.mapper.dispatch, heard):
                yield f"somebody listens to {heard} of {name}"


def as_columns(mapper: Mapper[Any], values: Values) -> tuple[Values, Values]:
    """Return the values with foreign keys in place of parents; and the parents."""
    known = _parents(mapper)
    if known.keys().isdisjoint(values):
        return values, {}
    columns: dict[str, Any] = {}
    parents: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            columns[name] = value
            continue
        parents[name] = value
        identity = None if value is None else identity_of(value)
        for column, position in known[name].columns:
            columns[column] = None if identity is None else identity[position]
    return columns, parents


@remembered
def _parents(mapper: Mapper[Any]) -> dict[str, _Parent]:
    """Return the relationships for which the row's own columns are enough."""
    found = {prop.key: _parent(mapper, prop) for prop in mapper.relationships}
    return {name: parent for name, parent in found.items() if parent is not None}


def _parent(mapper: Mapper[Any], prop: RelationshipProperty[Any]) -> _Parent | None:
    field = default_field(mapper, prop.key)
    if field is None or field.parent is None or not field.is_plain:
        return None
    is_mapped = all(map(mapper.columns.contains_column, field.columns))
    collection = field.reverse
    is_more = (
        prop.post_update,
        not _HARMLESS.issuperset(prop.cascade),
        # The constructor may not do without it.
        is_argument(mapper, prop.key),
        not is_mapped,
        # The new row may take another one's place.
        collection is not None and not field.parent.relationships[collection].uselist,
    )
    if any(is_more):
        return None
    names = [mapper.get_property_by_column(column).key for column in field.columns]
    columns = tuple(zip(names, field.key_positions, strict=True))
    is_key = any(column.primary_key for column in field.columns)
    return _Parent(field.parent.class_, columns, collection, is_key)


def _is_unheard(listeners: Any) -> bool:
    """Whether nothing listens but what keeps the two sides in line."""
    return all(getattr(each, "__module__", None) in _STOCK for each in listeners)
