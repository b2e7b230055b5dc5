"""What is kept between calls does not grow with their number."""

import gc
import warnings
from itertools import combinations, permutations
from typing import Any
from weakref import WeakSet

import pytest
from backends import before_sql, on_sqlite
from models import Tag
from sqlalchemy import ForeignKey, Integer, String
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, mapped_column, relationship

from async_goc import KeyedLocks, Policy, UniqueMixin, get_or_create
from async_goc._lookup.plan import plan_for
from async_goc.exceptions import MissingConstraintWarning


@pytest.mark.heavy
async def test_many_keys(engine: AsyncEngine, strategy: str) -> None:
    """Plans and statements are per model and names; released keys are forgotten."""
    locks = KeyedLocks(known_keys=50)
    policy = Policy(locks=locks)
    sizes: list[tuple[int, ...]] = []
    for number in range(120):
        async with AsyncSession(engine) as session, session.begin():
            await get_or_create(session, Tag, name=f"tag {number}", policy=policy)
        if number in {59, 119}:
            sizes.append(
                (
                    len(vars(Tag.__mapper__)["_async_goc"]),
                    len(vars(Tag.__mapper__)["_async_goc"]["calls"]),
                    len(vars(engine.dialect).get("_async_goc", ())),
                    len(locks.queues().memory._released),
                    len(locks.queues()._holders),
                    len(engine.sync_engine._compiled_cache),
                )
            )
    assert sizes[0] == sizes[1]
    assert policy.strategy == strategy


@pytest.mark.heavy
@pytest.mark.usefixtures("strategy")
async def test_many_models(engine: AsyncEngine) -> None:
    """A model that is no longer used is collected, with its plans."""
    models = WeakSet[Any]()

    async def use(number: int) -> None:
        class Own(DeclarativeBase):
            pass

        columns = {
            "__tablename__": "letter",
            "id": mapped_column(Integer, primary_key=True),
            "name": mapped_column(String, unique=True),
        }
        model: Any = type(f"Model{number}", (Own,), columns)
        models.add(model)
        async with AsyncSession(engine) as session, session.begin():
            await get_or_create(session, model, name=f"letter {number}")

    for number in range(12):
        await use(number)
    engine.sync_engine.clear_compiled_cache()  # SQLAlchemy's keeps the newest 500.
    gc.collect()
    assert not models
    assert not vars(engine.dialect).get("_async_goc")


class Own(UniqueMixin, DeclarativeBase):
    pass


# A model of many columns, any of which a client may look up by.
COLUMNS = {f"c{n}": mapped_column(Integer) for n in range(9)}
ID = mapped_column(Integer, primary_key=True)
Wide: Any = type("Wide", (Own,), {"__tablename__": "many", "id": ID, **COLUMNS})


def plans() -> int:
    return len(vars(Wide.__mapper__)["_async_goc"]["calls"])


def test_plans_do_not_depend_on_the_order_of_names() -> None:
    """The names of a lookup have one plan, in whatever order a client sends them.

    Fails without `sorted` in `_key`.
    """
    orders = list(permutations(["c1", "c2", "c3", "c4", "c5"]))
    found = {plan_for(Wide, dict.fromkeys(order, 1)) for order in orders}
    assert len(found) == 1
    mixed = [{"c1": None, "c2": 1}, {"c2": 1, "c1": None}]
    assert plan_for(Wide, mixed[0]) is plan_for(Wide, mixed[1])
    assert plan_for(Wide, mixed[0]) is not plan_for(Wide, {"c1": 1, "c2": None})


def test_plans_are_bounded() -> None:
    """Those used lately are kept, and no more than a number of them.

    Fails without `popitem` in `recall`.
    """
    often = plan_for(Wide, {"c0": 1})
    names = [f"c{number}" for number in range(9)]
    for count in range(1, 9):
        for some in combinations(names, count):
            plan_for(Wide, dict.fromkeys(some, 1))
            assert plan_for(Wide, {"c0": 1}) is often
    assert plans() <= 200


@on_sqlite
async def test_one_warning_for_the_names(engine: AsyncEngine) -> None:
    """A lookup that is not covered is warned about once, in whatever order."""
    async with engine.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with AsyncSession(engine) as session:
            for order in permutations(["c6", "c7", "c8"]):
                await get_or_create(session, Wide, **dict.fromkeys(order, 1))
                await session.rollback()
    kinds = [one.category for one in caught]
    assert kinds == [MissingConstraintWarning]


@pytest.mark.heavy
@on_sqlite
async def test_unique_models_come_and_go(engine: AsyncEngine) -> None:
    """What models do to rows of others is known anew when one comes or goes.

    Fails without `models` in `_relations`.
    """

    class Base(DeclarativeBase):
        pass

    columns = {"__tablename__": "kind", "name": mapped_column(String, primary_key=True)}
    kind: Any = type("Kind", (UniqueMixin, Base), columns)

    def make_others() -> list[Any]:
        columns = {
            "__tablename__": "other",
            "id": mapped_column(Integer, primary_key=True),
        }
        other: Any = type("Other", (Base,), columns)
        columns = {
            "__tablename__": "child",
            "id": mapped_column(ForeignKey("other.id"), primary_key=True),
            "other": relationship(other),
        }
        return [other, type("Child", (Base,), columns)]

    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    others = WeakSet[Any]()
    seen: list[int] = []
    for number in range(6):
        made = make_others() if number % 2 else []
        async with AsyncSession(engine) as session:
            await kind.as_unique(session, name="a")
        known = vars(kind.__mapper__)["_async_goc"]["relations"]
        seen.append(len(known[0].filled))
        others.update(made)
        for model in made:
            Base.metadata.remove(model.__table__)
        made = model = None
        gc.collect()
        assert not others
    assert seen == [0, 1] * 3


@before_sql
async def test_a_long_session_with_many_registries(session: AsyncSession) -> None:
    """A session keeps nothing of a registry in which it holds nothing."""
    locks = KeyedLocks()
    for number in range(5):
        policy = Policy(locks=KeyedLocks())
        name = f"tag {number}"
        await get_or_create(session, Tag, name=name, policy=policy)
        await session.rollback()
        await get_or_create(session, Tag, name="kept", policy=Policy(locks=locks))
        assert len(session.info["async_goc.owners"]) <= 2
    assert locks.statistics().held == 1
