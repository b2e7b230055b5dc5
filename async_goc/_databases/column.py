"""Know of which types a column's values are, however often that is asked."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

# Each step of a call for many rows asks: which keys are NULL, which values Python
# compares as the database does, and what a driver sends. To go through 10,000 values
# takes as long each time as one of the call's other steps.


class Column(list[Any]):
    """Values of one column; they stay as they are."""

    @cached_property
    def types(self) -> set[Any]:
        """The types of the values, that of None included."""
        return set(map(type, self))

    def pick(self, places: Sequence[int]) -> "Column":
        """Return the values at these places, of which a range has no step."""
        if isinstance(places, range) and len(places) == len(self):
            return self
        picked = Column(map(self.__getitem__, places))
        if len(self.types) == 1 and picked:
            picked.types = self.types
        return picked


def types_of(values: Sequence[Any]) -> set[Any]:
    """Return the types of the values, that of None included."""
    return values.types if isinstance(values, Column) else set(map(type, values))
