"""What a scrape of the metrics says."""

import asyncio
from typing import Any

import pytest
from backends import by_savepoint, on_sqlite
from models import Tag
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from waiting import until

from async_goc import (
    Event,
    KeyedLocks,
    Outcome,
    Policy,
    exceptions,
    get_or_create,
    get_or_create_many,
)
from async_goc.prometheus import Metrics

LABELS = ("verb", "model", "outcome")
Samples = dict[tuple[str, ...], float]


class Scrapes:
    """A registry of the test's own, and what Prometheus reads of it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def __getitem__(self, name: str) -> Samples:
        """The samples of that name, by the values of their labels."""
        text = generate_latest(self.registry).decode()
        return {
            tuple(sample.labels[n] for n in LABELS if n in sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def scrapes() -> Scrapes:
    return Scrapes()


@on_sqlite
@by_savepoint
async def test_calls_by_verb_model_and_outcome(
    session: AsyncSession, scrapes: Scrapes
) -> None:
    """Each call is counted and timed, those that fail, too."""
    how: Any = {"policy": Policy(observer=Metrics(scrapes.registry))}
    for _ in range(3):
        await get_or_create(session, Tag, name="x", **how)
    await get_or_create_many(session, Tag, ["x", "y"], key="name", **how)
    with pytest.raises(exceptions.UnknownFieldError):
        await get_or_create(session, Tag, nmae="x", **how)
    one, many = ("get_or_create", "Tag"), ("get_or_create_many", "Tag")
    assert scrapes["async_goc_calls_total"] == {
        (*one, "created"): 1,
        (*one, "hit"): 2,
        (*one, "failed"): 1,
        (*many, "created"): 1,
    }
    assert scrapes["async_goc_seconds_count"] == {one: 4, many: 1}
    assert 0 < scrapes["async_goc_seconds_sum"][one] < 60
    assert scrapes["async_goc_waited_seconds_count"] == {}


@on_sqlite
@by_savepoint
async def test_waits_and_locks(
    session: AsyncSession, scrapes: Scrapes, locks: KeyedLocks
) -> None:
    """A call that waits is seen in a scrape, and measured when it has its row."""
    policy = Policy(observer=Metrics(scrapes.registry), locks=locks)
    others = async_sessionmaker(session.bind)
    gauges = ("async_goc_locks_held", "async_goc_locks_waiting")
    before = [scrapes[name][()] for name in gauges]

    async def call() -> bool:
        async with others() as other:
            return (await get_or_create(other, Tag, name="x", policy=policy))[1]

    await get_or_create(session, Tag, name="x", policy=policy)
    waiter = asyncio.create_task(call())
    await until(lambda: locks.statistics().waiting)
    assert [scrapes[name][()] - 1 for name in gauges] == before
    await session.commit()
    assert await waiter is False
    names = ("get_or_create", "Tag")
    assert scrapes["async_goc_waited_seconds_count"] == {names: 1}
    assert scrapes["async_goc_calls_total"][*names, "waited_hit"] == 1
    for name in ("waited", "collapsed", "acquired"):
        assert scrapes[f"async_goc_locks_{name}_total"][()] >= 1
    assert () in scrapes["async_goc_locks_timeouts_total"]


def event(model: type[object]) -> Event:
    how: Any = {"strategy": "native", "attempts": 0, "waited": 0.0, "elapsed": 0.1}
    return Event(verb="get_or_create", model=model, outcome=Outcome.HIT, **how)


def test_models_of_one_name(scrapes: Scrapes) -> None:
    """They are counted together; and a transaction that is run again has no model."""
    observer = Metrics(scrapes.registry)
    for model in (Tag, type("Tag", (), {}), object):
        observer(event(model))
    calls = scrapes["async_goc_calls_total"]
    assert {model: count for (_, model, _), count in calls.items()} == {"Tag": 2, "": 1}


def test_two_observers_of_one_registry(scrapes: Scrapes) -> None:
    """The second one adds to the metrics of the first."""
    for _ in range(2):
        Metrics(scrapes.registry)(event(Tag))
    assert scrapes["async_goc_calls_total"] == {("get_or_create", "Tag", "hit"): 2}
    # Another registry has metrics of its own.
    Metrics(CollectorRegistry())(event(Tag))
    assert scrapes["async_goc_calls_total"] == {("get_or_create", "Tag", "hit"): 2}


def test_names_that_are_taken(scrapes: Scrapes) -> None:
    """Somebody else's metrics are not added to, and the error names them."""
    Counter("async_goc_calls", "Ours", registry=scrapes.registry)
    with pytest.raises(ValueError, match="async_goc_calls"):
        Metrics(scrapes.registry)


def test_the_default_registry() -> None:
    """Without a registry, it is the client's own."""
    Metrics()(event(Tag))
    labels = {"verb": "get_or_create", "model": "Tag", "outcome": "hit"}
    assert REGISTRY.get_sample_value("async_goc_calls_total", labels) == 1
