"""Which values as_unique takes for the same lookup."""

from copy import copy
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from backends import by_savepoint
from slippery import Paper
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from words import Word

from async_goc import Outcome

pytestmark = pytest.mark.one_driver

ZONE: Final = ZoneInfo("Europe/Berlin")
SAME = [1, "a", None, True, 1.5, Decimal("1.0"), (1, "a"), frozenset({1}), b"a"]
OTHERS: list[Any] = [(1, True), (1, 1.0), (0.0, -0.0), ((1,), (True,)), ("1", 1)]
OTHERS += [(Decimal("1.0"), Decimal("1.00")), (Outcome.HIT, "hit")]
OTHERS += [tuple(datetime(2026, 10, 25, 2, tzinfo=ZONE, fold=f) for f in (0, 1))]


class Broken:
    def __hash__(self) -> int:
        raise LookupError


@pytest.mark.parametrize("value", SAME, ids=repr)
def test_one_lookup(value: Any) -> None:
    """Values that nothing tells apart are the same lookup."""
    assert Word.unique_hash(a=value, b=1) == Word.unique_hash(b=1, a=copy(value))


@pytest.mark.parametrize("values", OTHERS, ids=repr)
def test_two_lookups(values: Any) -> None:
    """Values that are equal in Python may not be so in the database."""
    one, other = [Word.unique_hash(a=value) for value in values]
    assert one != other


@pytest.mark.parametrize(
    "value",
    [object(), [1], ([1],), func.lower("a"), Word.text, Word(), Broken()],
    ids=lambda value: type(value).__name__,
)
def test_no_lookup_to_remember(value: Any) -> None:
    """What may change in place, or has no value yet, is asked for each time."""
    assert Word.unique_hash(a=value) is None


@by_savepoint
@pytest.mark.parametrize("values", [(1, True), (1, 1.0), (True, 1.0)])
async def test_equal_in_python(session: AsyncSession, values: tuple[Any, Any]) -> None:
    """What the database tells apart has an object each."""
    for docs in (values, [(value, "x") for value in values]):
        papers = [await Paper.as_unique(session, doc=doc) for doc in docs]
        assert [await Paper.as_unique(session, doc=doc) for doc in docs] == papers
        found = [await session.scalar(select(Paper).filter_by(doc=d)) for d in docs]
        assert found == papers
