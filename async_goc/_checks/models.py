"""Say which mapped classes and tables are to be checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import MetaData, Table
from sqlalchemy.orm import Mapper, registry


@dataclass(frozen=True, slots=True)
class Models:
    """The classes of a base, and all tables, mapped or not."""

    mappers: tuple[Mapper[Any], ...]
    tables: tuple[Table, ...]

    def name_of(self, table: Table) -> str:
        """Return the name of the class whose rows are there, or the table's."""
        for mapper in self.mappers:
            if mapper.local_table is table:
                return mapper.class_.__name__
        return table.fullname


def models_of(given: object) -> Models:
    """Return what is behind a declarative base, a class, a registry or a MetaData."""
    if isinstance(given, MetaData):
        return _checked(Models((), tuple(given.tables.values())), given)
    if isinstance(given, registry):
        found: Any = given.mappers
    elif isinstance(given, type):
        classes = [given, *_subclasses(given)]
        inspected: Any = [sa.inspect(each, raiseerr=False) for each in classes]
        found = [each for each in inspected if isinstance(each, Mapper)]
    else:
        msg = (
            f"{given!r} has no models; give a declarative base, a mapped class, a "
            "registry or a MetaData"
        )
        raise TypeError(msg)
    for each in {mapper.registry for mapper in found}:
        each.configure(cascade=True)
    # A class comes before those that inherit its table, and have no other.
    mappers = sorted(dict.fromkeys(found), key=_place)
    mapped = {table for mapper in mappers for table in tables_of(mapper)}
    # What is given by one class says nothing of other tables.
    is_base = isinstance(given, registry) or given not in {m.class_ for m in mappers}
    metadata = getattr(given, "metadata", None) if is_base else None
    others = metadata.tables.values() if isinstance(metadata, MetaData) else ()
    return _checked(Models(tuple(mappers), tuple({*mapped, *others})), given)


def tables_of(mapper: Mapper[Any]) -> list[Table]:
    """Return the tables that hold a row of the model."""
    tables: Any = mapper.tables
    return [table for table in tables if isinstance(table, Table)]


def _place(mapper: Mapper[Any]) -> tuple[str, int, str]:
    depth = len(list(mapper.iterate_to_root()))
    return mapper.base_mapper.class_.__name__, depth, mapper.class_.__name__


def _subclasses(class_: type[Any]) -> Iterator[type[Any]]:
    for each in class_.__subclasses__():
        yield each
        yield from _subclasses(each)


def _checked(models: Models, given: object) -> Models:
    if not models.tables:
        name = getattr(given, "__name__", repr(given))
        msg = f"{name} has no tables; import the modules that define its models first"
        raise ValueError(msg)
    return models
