"""Find what the models and the database do not both know."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Dialect, Table

from .._databases import StoredKey, StoredTable, ignores_case
from .finding import Finding
from .keys import Declaring, Key, declarations, declared_key, stored_key


@dataclass(frozen=True)
class Place:
    """A table of the models, and what the database has of it."""

    model: str
    table: Table
    stored: StoredTable
    dialect: Dialect

    @cached_property
    def declared(self) -> Sequence[tuple[Declaring, Key]]:
        """What the models declare."""
        each = declarations(self.table)
        return [(one, declared_key(one, self.dialect)) for one in each]

    @cached_property
    def found(self) -> Sequence[tuple[StoredKey, Key]]:
        """What the database has."""
        return [(one, stored_key(one)) for one in self.stored.keys]

    @cached_property
    def missing(self) -> Sequence[tuple[Declaring, Key]]:
        """What is declared, and nothing in the database makes it so."""
        # What is behind a view is not known.
        holding = [key for stored, key in self.found if stored.is_valid]
        return [
            (one, key)
            for one, key in self.declared
            if not self.stored.is_view and not any(h.stands_for(key) for h in holding)
        ]

    @property
    def uncertain(self) -> Sequence[tuple[Declaring, Key]]:
        """What the rows may contradict, because nothing is known to forbid it."""
        return self.declared if self.stored.is_view else self.missing

    def lacking(self, key: Key) -> list[str]:
        """Return the columns that the key needs, and the database does not have."""
        names = {column.name for column in self.table.columns}
        words = {*key.columns, *re.findall(r"[^\s(),\"]+", str(key))}
        return sorted((names & words) - self.stored.columns)


def absent(model: str, table: Table) -> Finding:
    """Return what to say of a table that is not there."""
    return Finding(
        "missing-in-database",
        "error",
        model,
        f"the database has no table {table.fullname}",
        "run the migrations, or see whether it is the right database and schema",
    )


def drift(place: Place) -> Iterator[Finding]:
    """Yield what one side has, and the other lacks."""
    yield from _missing_in_database(place)
    for stored, key in place.found:
        yield from _of_stored(place, stored, key)


def _missing_in_database(place: Place) -> Iterator[Finding]:
    for _, key in place.missing:
        lacks = place.lacking(key)
        is_broken = any(k.stands_for(key) for _, k in place.found)
        if lacks:
            seen = f"the table has no column {', '.join(lacks)}"
            todo = "run the migrations, or see whether it is the right database"
        elif is_broken:
            seen = "its index is invalid, as a failed CREATE INDEX leaves it"
            todo = "remove the rows that are there twice, and REINDEX it"
        else:
            seen = "no constraint or index of the database makes it so"
            todo = "add one by a migration; create_all() changes no table that is there"
        yield Finding(
            "missing-in-database",
            "error",
            place.model,
            f"{place.table.fullname} is declared unique by ({key}), and {seen}",
            todo,
        )


def _of_stored(place: Place, stored: StoredKey, key: Key) -> Iterator[Finding]:
    known = [one for one, each in place.declared if each.stands_for(key)]
    if stored.is_deferrable and not any(_is_deferrable(one) for one in known):
        yield _deferrable(place, key)
    # What a mapped class leaves out, it does not look up by.
    if key.is_primary and not key.columns <= {c.name for c in place.table.columns}:
        return
    folded = _folded(place, stored, key)
    if folded and (not known or not key.folded):
        yield _case_insensitive(place, key, folded)
    elif stored.cut and not any(map(_is_cut, known)):
        yield _cut(place, stored, key)
    elif not known:
        yield _missing_in_model(place, key)


def _folded(place: Place, stored: StoredKey, key: Key) -> frozenset[str]:
    """Return the columns whose case does not count, though the model's types say so."""
    types: dict[str, Any] = {c.name: c.type for c in place.table.columns}
    return frozenset(
        name
        for name in stored.folded | key.folded
        if name in types and not ignores_case(types[name], place.dialect)
    )


def _is_deferrable(declared: Any) -> bool:
    return bool(getattr(declared, "deferrable", None))


def _is_cut(declared: Any) -> bool:
    return any(option.endswith("_length") for option in declared.dialect_kwargs)


def _deferrable(place: Place, key: Key) -> Finding:
    return Finding(
        "deferrable",
        "warning",
        place.model,
        f"the database checks ({key}) of {place.table.fullname} as late as COMMIT, if "
        "it is told to, and the model does not say so",
        "make the constraint NOT DEFERRABLE, or declare it with deferrable=True: until "
        "then, each native INSERT into the table fails",
    )


def _case_insensitive(place: Place, key: Key, folded: frozenset[str]) -> Finding:
    names = ", ".join(sorted(folded))
    remedy = "give the model's column the type or the collation of the database's"
    if key.folded:
        name = f"{place.model}.{min(folded)}"
        remedy = (
            "declare what the database has, and look up by "
            f"func.lower({name}) == value.lower(): by the value as it is, a row that "
            "differs in case is not found, and an INSERT beside it is refused"
        )
    return Finding(
        "case-insensitive",
        "warning",
        place.model,
        f"({key}) of {place.table.fullname} is unique without regard to the case of "
        f"{names}, and the model does not say so",
        remedy,
    )


def _cut(place: Place, stored: StoredKey, key: Key) -> Finding:
    names = ", ".join(sorted(stored.cut))
    return Finding(
        "missing-in-model",
        "warning",
        place.model,
        f"{place.table.fullname} is unique by ({key}) in the database, of {names} only "
        "by the first characters, and the model does not say so",
        "make the index one of whole columns: until then, values that begin alike "
        "refuse each other",
    )


def _missing_in_model(place: Place, key: Key) -> Finding:
    return Finding(
        "missing-in-model",
        "warning",
        place.model,
        f"{place.table.fullname} is unique by ({key}) in the database, and the model "
        "does not declare it",
        "declare it in the model, so that a lookup by it counts as safe, or drop it by "
        "a migration",
    )
