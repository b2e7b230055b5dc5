"""Keep what becomes of the rows of a bulk call, and their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import eq
from typing import Any, TypeVar

from .._databases import Column
from .._turns import Key
from .rows import Columns, Nulls, Places, Values, by_nulls

Item = TypeVar("Item")


# There are thousands of rows, and what is done for each of them takes longer than all
# statements of the call. So nothing is made for a row: it is a place in the columns of
# a ledger, the index of the first mapping that has its key.


@dataclass(slots=True, eq=False)
class Ledger:
    """The rows of a call, one for each key, and what has become of them."""

    # The mappings.
    values: Sequence[Values]
    # The values of the key's columns, by column.
    keys: Sequence[Column]
    # Which of the columns are NULL in every key; None: that differs.
    nulls: Nulls | None
    # The place of each mapping's row.
    asked: Places
    # Each place once, in the order of the keys.
    order: Places
    # What a new row gets.
    new_values: list[Values]
    # The instance, or the primary key where that is the answer. None as long as no row
    # is found or created.
    answers: list[Any]
    # The places of the rows that this call has inserted.
    created: set[int]
    # What the call queues for in this process, if it does.
    queue_keys: dict[int, Key | None]
    # The last places whose keys were asked for, and these.
    _queued: tuple[Places, Mapping[Key, None]] = ((), {})

    def keys_of(self, places: Places) -> Sequence[Column]:
        """Return the values of the key's columns in these rows."""
        return [column.pick(places) for column in self.keys]

    def by_nulls(self, keys: Columns) -> Mapping[Nulls, Places]:
        """Return the indexes of those of the keys with NULLs in the same columns."""
        if self.nulls is None:
            return by_nulls(keys)
        return {self.nulls: range(len(keys[0]))}

    def found(self, places: Places) -> Places:
        """Return the places of rows that are found or created."""
        answers = self.answers
        return [place for place in places if answers[place] is not None]

    def missing(self, places: Places) -> Places:
        """Return the places of rows that are neither found nor created."""
        answers = self.answers
        return [place for place in places if answers[place] is None]

    def made(self, places: Places) -> Places:
        """Return the places of rows that this call has inserted."""
        if self.created.issuperset(places):
            return places
        return [place for place in places if place in self.created]

    def queued(self, places: Places) -> Mapping[Key, None]:
        """Return what the call queues for."""
        # Most often, it then inserts just the rows that it has queued for.
        known, keys = self._queued
        if places is not known:
            found = map(self.queue_keys.__getitem__, places)
            keys = dict.fromkeys(filter(None, found))
            self._queued = places, keys
        return keys

    def create(self, places: Places, answers: Sequence[Any]) -> None:
        """Note that this call has inserted the rows."""
        self.assign(places, answers)
        self.created.update(places)

    def assign(self, places: Places, answers: Sequence[Any]) -> None:
        """Give each row its answer."""
        known = self.answers
        for place, answer in zip(places, answers, strict=True):
            known[place] = answer


def ledger_of(
    rows: Sequence[Values], keys: Sequence[Column], ranks: Sequence[Any]
) -> Ledger:
    """Return a ledger of the rows that have these keys, to be sorted by their ranks."""
    asked: Places = range(len(rows))
    order = sorted(asked, key=ranks.__getitem__)
    ranked = picked(ranks, order)
    if any(map(eq, ranked, islice(ranked, 1, None))):
        # The first index under a rank stays, and so they come from the end.
        first = dict(zip(reversed(ranks), reversed(asked), strict=True))
        asked = list(map(first.__getitem__, ranks))
        order = [place for place in order if asked[place] == place]
    alike = [*by_nulls(keys)]
    nulls = alike[0] if len(alike) == 1 else None
    answers: list[Any] = [None] * len(rows)
    return Ledger(rows, keys, nulls, asked, order, [*rows], answers, set(), {})


def picked(items: Sequence[Item], places: Places) -> Sequence[Item]:
    """Return the items at these places."""
    if isinstance(places, range):
        return items[places.start : places.stop]
    return list(map(items.__getitem__, places))
