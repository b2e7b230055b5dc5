"""Rows inserted natively, or in bulk, are what a flush would have made of them."""

import pickle
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from models import Animal, Cat
from odd import Clause, Colour, Numbered, Odd
from sqlalchemy import ClauseElement, column, func, inspect, select, table
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from wide import ChosenList, Copied, Listed, Wide

from async_goc import Event, Policy, get_or_create, get_or_create_many

pytestmark = pytest.mark.one_driver

Row = dict[str, Any]

FULL: Row = {
    "keyed": "k",
    "word": "word",
    "fraction": 0.1 + 0.2,
    "price": Decimal("1.25"),
    "data": b"x\0y",
    "colour": Colour.RED,
    "uuid": uuid4(),
    "at": datetime(2026, 1, 1, tzinfo=UTC),
    "day": date(2026, 1, 1),
    "hour": time(1, 2),
    "span": timedelta(days=1, seconds=5),
    "is_on": True,
    "big": 2**60,
    "document": {"a": [1, None]},
    "size": 5,
    "level": 8,
    "shade": "light",
    "note": "n",
}

ODD: list[Row] = [
    {},
    {"keyed": "k", "word": "w", "colour": Colour.RED, "size": 5},
    {"data": None, "data_or_null": None, "size": None, "shade": "light"},
    {"data": {"a": [1]}, "note": "deferred", "level": func.abs(-8)},
    {"note": func.lower("N"), "remark": None, "blank": None},
    {"keyed": Clause(), "remark": func.lower("R"), "copy": "given"},
]

CASES: list[tuple[type[Any], list[Row]]] = [
    *((Odd, [{"id": 5, "name": "n"} | values]) for values in ODD),
    (Numbered, [{"id": 5, "name": "n"}]),
    (Animal, [{"id": 5, "name": "n"}]),
    (Cat, [{"id": 5, "name": "n", "lives": None}]),
    (Cat, [{"id": 5, "name": "n", "lives": 1}]),
    (Wide, [{"name": "a"}, {"name": "b"} | FULL, {"name": "c"} | dict.fromkeys(FULL)]),
    (Copied, [{"name": "a"}, {"name": "b", "word": "w", "copy": "own"}]),
    (Copied, [{"name": "a", "made": None}, {"name": "b", "made": [1], "copy": None}]),
    (Animal, [{"name": "a"}]),
    (Cat, [{"name": "a"}, {"name": "b", "lives": 1}]),
    # Each row has a value of its own, whatever the first one is.
    *(
        (Listed, [{"name": str(v), "document": v, "pickled": v} for v in values])
        for values in (([1], {"x": 1}), (["a", "b"], ["c"]), ([], {}), ((1, 2), [3]))
    ),
    (ChosenList, [{"name": f"{n}", "items": ["x", "y"]} for n in range(2)]),
]


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


def names_of_sql(rows: list[Row]) -> set[str]:
    """The columns for which a row has an SQL expression: no bulk statement takes it."""
    sql = ClauseElement | Clause
    return {name for row in rows for name in row if isinstance(row[name], sql)}


async def flush(session: AsyncSession, model: type[Any], rows: list[Row]) -> None:
    session.add_all(model(**row) for row in rows)
    await session.flush()


async def create(
    session: AsyncSession, model: type[Any], rows: list[Row], way: Any
) -> list[Any]:
    """Create the rows in one of three ways."""
    events: list[Event] = []
    strategy = "savepoint" if way == "savepoint" else "native"
    policy = Policy(strategy=strategy, observer=events.append)
    if way == "bulk":
        result = await get_or_create_many(
            session, model, rows, key="name", policy=policy
        )
    else:
        result = [
            await get_or_create(
                session,
                model,
                **{name: row[name] for name in row.keys() & {"id", "name"}},
                defaults={name: row[name] for name in row.keys() - {"id", "name"}},
                policy=policy,
            )
            for row in rows
        ]
    assert [created for _, created in result] == [True] * len(rows)
    # They have a default that is made of the row's other values.
    is_contextual = model in {Odd, Copied}
    not_in_bulk = bool(names_of_sql(rows)) or is_contextual
    needs_flush = way == "savepoint" or (way == "bulk" and not_in_bulk)
    expected = "savepoint" if needs_flush else "native"
    assert {event.strategy for event in events} == {expected}
    return [instance for instance, _ in result]


def seen(instance: Any, row: Row) -> tuple[Any, ...]:
    """The instance's values and state, without what is another one in each row."""
    state: Any = inspect(instance)
    names = {p.key for p in state.mapper.column_attrs if not p.deferred}
    own = {"made_at"} if "id" in row else {"made_at", "id"}
    assert pickle.loads(pickle.dumps(instance)).name == row["name"]  # noqa: S301
    assert state.key[1] == (instance.id,)
    return (
        {name: getattr(instance, name) for name in names - own},
        {name: state.dict.get(name) for name in ("note", "remark")},
        state.unloaded - names,
        state.expired_attributes & names,
        state.modified,
    )


async def stored(session: AsyncSession, model: type[Any], rows: list[Row]) -> Any:
    """The rows as the driver returns them; then they are gone."""
    name = model.__table__.name
    own = {"made_at"} if "id" in rows[0] else {"made_at", "id"}
    columns = [column(c.name) for c in model.__table__.c if c.name not in own]
    found = await session.execute(select(*columns).select_from(table(name)))
    values = sorted(tuple(map(str, row)) for row in found)
    await session.rollback()
    return values


@pytest.mark.parametrize(("model", "rows"), CASES)
async def test_a_native_row(
    session: AsyncSession, model: type[Any], rows: list[Row]
) -> None:
    """Whatever the columns are: the row, and the instance's state, are the same."""
    await flush(session, model, rows)
    flushed = await stored(session, model, rows)
    states = []
    for way in ("savepoint", "native"):
        made = await create(session, model, rows, way)
        states.append(list(map(seen, made, rows)))
        assert await stored(session, model, rows) == flushed
    assert states[0] == states[1]


@pytest.mark.parametrize(("model", "rows"), CASES)
async def test_a_bulk_row(
    session: AsyncSession, model: type[Any], rows: list[Row]
) -> None:
    """Types, defaults of all kinds, NULLs, and what tells subclasses apart."""
    await flush(session, model, rows)
    flushed = await stored(session, model, rows)
    for instance in await create(session, model, rows, "bulk"):
        assert inspect(instance).expired_attributes <= names_of_sql(rows)
        assert not inspect(instance).modified
    assert await stored(session, model, rows) == flushed
