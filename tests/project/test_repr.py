"""What people print says what state it is in."""

import asyncio

from models import Tag

from async_goc import Event, KeyedLocks, Outcome, Policy, Stats
from async_goc._locks.owner import Answer, Owner


class Holder(Owner):
    """An owner that lives as long as the test."""

    def is_alive(self) -> bool:
        return True

    def rank(self) -> int:
        return 0

    def is_executing(self) -> bool:
        return False

    def is_in_line(self, _: object) -> bool:
        return False


def test_registry_tells_its_keys() -> None:
    """The registry counts over its open loops: from any thread, and outside of any."""
    locks = KeyedLocks()

    async def use() -> None:
        queues, owner = locks.queues(), Holder()
        for key in ("held", "also held", "absent", "there"):
            queues.take(key, owner)
        queues.release("absent", owner)
        queues.release("there", owner, Answer.CREATED)
        waits = asyncio.create_task(queues.wait("held", Holder(), None))
        await asyncio.sleep(0)
        busy = "<KeyedLocks: 2 held, 1 waiting, 1 remembered>"
        assert [repr(locks), await asyncio.to_thread(repr, locks)] == [busy, busy]
        queues.release("held", owner)
        assert await waits is Answer.GRANTED

    empty = "<KeyedLocks: 0 held, 0 waiting, 0 remembered>"
    assert repr(locks) == empty
    with asyncio.Runner() as runner:
        runner.run(use())
        assert repr(locks) == "<KeyedLocks: 2 held, 0 waiting, 1 remembered>"
        assert repr(locks) in repr(Policy(locks=locks))
    assert repr(locks) == empty


def test_stats_tell_their_counts() -> None:
    """Stats list how often each outcome was seen, over all models."""
    stats = Stats()
    assert repr(stats) == "<Stats: no calls>"
    for model, outcome in ((Tag, Outcome.HIT), (Policy, Outcome.HIT)):
        stats(seen(model, outcome))
    stats(seen(Tag, Outcome.CREATED))
    assert repr(stats) == "<Stats: 2 hit, 1 created>"


def seen(model: type[object], outcome: Outcome) -> Event:
    return Event(
        verb="get_or_create",
        model=model,
        outcome=outcome,
        strategy="savepoint",
        attempts=1,
        waited=0,
        elapsed=0,
    )
