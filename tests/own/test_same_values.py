"""Values that the database changes, and keys that it takes for one."""

from asyncio import gather
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from backends import BACKENDS, on_postgres
from mapped import Valued
from odd import Colour
from sqlalchemy import Engine, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from told import take
from ways import BATCH, Case, Ways, each
from wide import Spelled

from async_goc import GetOrCreator, get_or_create

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("mapped_tables")]

GIVEN: dict[str, dict[str, Any]] = {
    "rounded": {"price": Decimal("1.255")},
    "more digits": {"price": Decimal("1.5000")},
    "integer for a fraction": {"fraction": 1},
    "integer for a decimal": {"price": 2},
    "truth for an integer": {"size": True},
    "name for a member": {"colour": "RED"},
    "member": {"colour": Colour.RED},
    "other time zone": {"at": datetime(2026, 1, 1, tzinfo=UTC)},
    "reversed": {"word": "abc"},
    "empty": {"word": "", "data": b"", "blank": ""},
    "mutable bytes": {"data": bytearray(b"x")},
    "document": {"document": {"a": [1, None], "b": (1, 2)}},
    "keys of a document": {"document": {1: 2}},
    "no document": {"document": None},
    "for a Python default": {"level": 5},
    "None for a Python default": {"level": None},
    "for a server default": {"kind": 8},
    "for an SQL default": {"shade": "light"},
    "by its attribute's name": {"keyed": "k"},
}


def given(values: dict[str, Any]) -> Case:
    def call(caller: Any) -> Any:
        return caller.get_or_create(Valued, name="a", defaults=values)

    return Case(call, list, ("direct", "direct"), is_tried=True, is_stored=True)


@each(backends=BACKENDS, given={name: given(values) for name, values in GIVEN.items()})
async def test_given(ways: Ways, case: Case) -> None:
    """Created directly, an object has its values as they are stored."""
    await ways.compare(case)


# By attribute: keys of which the database takes some for one.
SPELLINGS: dict[str, list[Any]] = {
    "mail": ["Ann", "ANN", "bob", "ann"],
    "document": [{"a": 1, "b": 2}, {"b": 2, "a": 1}, [1], [1.0]],
    "pairs": [{"a": "1", "b": None}, {"b": None, "a": "1"}, {}],
    "price": [Decimal("1.5"), Decimal("1.50"), Decimal("1.504"), Decimal(2), 2],
}


@on_postgres
@pytest.mark.parametrize("batch", [None, BATCH])
async def test_spellings(engine: AsyncEngine, other: Engine, batch: Any) -> None:
    """Calls at once are told apart as calls in one session are, one after the other."""
    sessions = async_sessionmaker(engine)
    creator = GetOrCreator(sessions, batch=batch)
    for name, keys in SPELLINGS.items():
        seen: list[Any] = []
        for is_at_once in (False, True):
            if is_at_once:
                calls = [creator.get_or_create(Spelled, **{name: key}) for key in keys]
                made = await gather(*calls)
            else:
                async with sessions.begin() as session:
                    made = [
                        await get_or_create(session, Spelled, **{name: key})
                        for key in keys
                    ]
            ids = [inspect(row).identity for row, _ in made]
            created = sum(created for _, created in made)
            seen.append(([ids.index(each) for each in ids], created))
            with other.begin() as connection:
                _, rows = take(connection, [Spelled])["spelled"]
            assert len(rows) == created == len(set(ids))
        assert seen[0] == seen[1], name
