"""Equal calls of a creator at the same time: one asks, and all have an answer."""

import asyncio
from collections import Counter
from typing import Any

import creators
import pytest
from models import Person, Tag
from sqlalchemy import event, inspect, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from steps import Held, Steps
from waiting import until

from async_goc import Event, Outcome, Policy

pytestmark = pytest.mark.one_driver

ways = pytest.mark.parametrize("way", ["direct", "session", "batch"])
shared = pytest.mark.parametrize("way", ["direct", "batch"])


@ways
async def test_one_insert(engine: AsyncEngine, way: str) -> None:
    """200 equal calls: one row, one `created`, and an instance for each call.

    Fails without `is_leaders` in `_ask`, and without `is_leaders` in `Flight.land`.
    """
    creator, calls = creators.make(engine, way), 40 if way == "session" else 200
    results = await creators.at_once(
        creator.get_or_create(Tag, name="x") for _ in range(calls)
    )
    tags = [tag for tag, _ in results]
    assert Counter(created for _, created in results) == {True: 1, False: calls - 1}
    assert len({id(tag) for tag in tags}) == calls
    assert {(tag.id, tag.name, inspect(tag).detached) for tag in tags} == {
        (tags[0].id, "x", True)
    }
    assert await creators.count(engine, Tag) == 1
    assert creator.__repr__() == "<GetOrCreator: 0 calls under way, 0 queued>"


@shared
async def test_one_select(engine: AsyncEngine, way: str) -> None:
    """50 equal calls for a row that is there: one asks, and then one for all others.

    Fails without `land` in `_ask`, and without `join` in `find_or_create`.
    """
    creator = creators.make(engine, way)
    await creator.get_or_create(Tag, name="x")
    taken = creators.taken(engine)
    await creators.at_once(creator.get_or_create(Tag, name="x") for _ in range(50))
    assert len(taken) <= 2


async def test_no_answer_from_before_the_call(engine: AsyncEngine) -> None:
    """A call sees what its own task committed, while an equal call is under way.

    Wherever that is, even if its answer has come and is about to be shared.
    Fails without `served` in `Flight.land`, if every call that waits is served.
    """
    creator, k, was_held = creators.make(engine), 0, True
    await creator.get_or_create(Tag, name="x")
    readings: list[asyncio.Task[tuple[Tag, bool]]] = []

    async def write_and_read() -> None:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(update(Tag).values(colour=f"{k}"))
        readings.append(asyncio.create_task(creator.get_or_create(Tag, name="x")))
        await asyncio.sleep(0)

    while was_held:
        k += 1
        leader = Held(creator.get_or_create(Tag, name="x"), write_and_read, k)
        await leader
        was_held = leader.count >= k
        assert len(readings) == was_held
        while readings:
            tag, _ = await readings.pop()
            assert tag.colour == f"{k}"
    assert k > 1


@ways
async def test_a_cancelled_leader_hands_over(engine: AsyncEngine, way: str) -> None:
    """The others get their row, with the defaults of the one that goes on.

    They share again, and do not ask one by one.
    Fails without `CancelledError` in `_lead`.
    """
    creator, door = creators.make(engine, way), creators.Door(colour="leader's")
    leader = asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=door))
    await until(lambda: door.came)
    defaults = {"colour": "red"}
    others = [
        asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=defaults))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    taken = creators.taken(engine)
    leader.cancel()
    results = await asyncio.gather(*others)
    assert way == "session" or len(taken) <= 5
    assert [created for _, created in results].count(True) == 1
    assert {tag.colour for tag, _ in results} == {"red"}
    with pytest.raises(asyncio.CancelledError):
        await leader
    await creator.aclose()
    assert await creators.count(engine, Tag) == 1


@ways
@pytest.mark.parametrize("is_late", [False, True])
async def test_a_cancelled_follower_touches_no_other(
    engine: AsyncEngine, way: str, is_late: bool
) -> None:
    """Whoever waits may be cancelled, also in the turn in which the answer comes.

    Fails without `done` in `Flight.land`, and without `done` in `Flight.end`.
    """
    creator, door = creators.make(engine, way), creators.Door()
    leader = asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=door))
    await until(lambda: door.came)

    async def cancelled() -> Any:
        me = asyncio.current_task()
        assert me is not None
        call = creator.get_or_create(Tag, name="x")
        return await Steps(call, me.cancel, 1, is_late=is_late)

    tasks = [asyncio.create_task(cancelled()) for _ in range(3)]
    others = [
        asyncio.create_task(creator.get_or_create(Tag, name="x")) for _ in range(3)
    ]
    await asyncio.sleep(0)
    door.open()
    results = await asyncio.gather(leader, *others)
    assert [created for _, created in results] == [True, False, False, False]
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
    await creator.aclose()


@ways
async def test_a_failing_leader_fails_alone(engine: AsyncEngine, way: str) -> None:
    """An error is that of the call that has raised it: the others have no part in it.

    They find out at once, and not one after the other.
    Fails without `GO_ALONE` in `_lead`.
    """
    creator = creators.make(engine, way)
    bad, good = creators.Door(colour="bad"), creators.Door(colour="good")
    leader = asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=bad))
    await until(lambda: bad.came)
    others = [
        asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=good))
        for _ in range(5)
    ]
    await asyncio.sleep(0)
    bad.open()
    await until(lambda: good.came == 5, limit=5)
    good.open()
    results = await asyncio.gather(*others)
    assert [created for _, created in results].count(True) == 1
    with pytest.raises(Exception, match="good_colour"):
        await leader


@ways
async def test_other_defaults_are_the_same_flight(
    engine: AsyncEngine, way: str
) -> None:
    """Calls that name other defaults for one row: the first one's win, and one row.

    Fails without `items` in `Wanted.share`, if the defaults are part of the key.
    """
    creator = creators.make(engine, way)
    given = [{"colour": "red"}, {"slug": "s"}, {"colour": "blue", "slug": "t"}, None]
    taken = creators.taken(engine)
    results = await creators.at_once(
        creator.get_or_create(Tag, name="x", defaults=defaults) for defaults in given
    )
    assert way == "session" or len(taken) <= 4
    assert [created for _, created in results].count(True) == 1
    winner = next(tag for tag, created in results if created)
    assert {(tag.id, tag.colour, tag.slug) for tag, _ in results} == {
        (winner.id, winner.colour, winner.slug)
    }


@ways
async def test_a_call_inside_a_default_waits_for_no_other(
    engine: AsyncEngine, way: str
) -> None:
    """Defaults may ask the creator, for the very row, or for each other's rows.

    Fails without `_is_inside` in `Wanted.share`.
    """
    creator = creators.make(engine, way)

    async def same() -> dict[str, Any]:
        _, created = await creator.get_or_create(Tag, name="x")
        assert created
        return {"colour": "late"}

    def other(name: str) -> Any:
        async def ask() -> dict[str, Any]:
            await creator.get_or_create(Tag, name=name)
            return {}

        return ask

    async with asyncio.timeout(5):
        tag, created = await creator.get_or_create(Tag, name="x", defaults=same)
        assert (tag.colour, created) == (None, False)
        await asyncio.gather(
            creator.get_or_create(Tag, name="a", defaults=other("b")),
            creator.get_or_create(Tag, name="b", defaults=other("a")),
        )
    assert await creators.count(engine, Tag) == 3


@ways
async def test_an_event_for_each_call(engine: AsyncEngine, way: str) -> None:
    """Each call is reported once, with its way: one has created, the others waited."""
    events: list[Event] = []
    creator = creators.make(engine, way, policy=Policy(observer=events.append))
    await creators.at_once(creator.get_or_create(Tag, name="x") for _ in range(5))
    await creator.get_or_create(Tag, name="x")
    outcomes = Counter(each.outcome for each in events)
    if way == "session":
        assert outcomes[Outcome.CREATED] == 1
        assert sum(outcomes.values()) == 6
        assert Outcome.FAILED not in outcomes
    else:
        created, waited, hit = Outcome.CREATED, Outcome.WAITED_HIT, Outcome.HIT
        assert outcomes == {created: 1, waited: 4, hit: 1}
    assert {each.verb for each in events} == {"get_or_create"}
    lanes = {"session"} if way == "session" else {"driver", "cursor"}
    assert {each.lane for each in events} <= lanes
    assert all(each.elapsed >= each.waited >= 0 for each in events)


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
@shared
async def test_a_pooler_is_met_once(url: str, way: str) -> None:
    """Calls that need a session each, as was found out, do not ask one by one.

    Fails without `is_refused` in `Kind.direct`.
    """
    engine = create_async_engine(url, connect_args={"statement_cache_size": 0})
    creator = creators.make(engine, way)
    await creator.get_or_create(Tag, name="x")
    await creator.get_or_create(Tag, name="x")
    taken = creators.taken(engine)
    await creators.at_once(creator.get_or_create(Tag, name="x") for _ in range(5))
    assert len(taken) == 5
    assert max(taken) > 1
    await engine.dispose()


async def test_a_model_without_a_short_way_is_asked_for_in_turn(
    engine: AsyncEngine, statements: list[str]
) -> None:
    """Where only a session can insert, one of 50 equal calls looks and inserts.

    Fails without `join` in `find_or_create`.
    """
    creator = creators.make(engine)
    results = await creators.at_once(
        creator.get_or_create(Person, name="x") for _ in range(50)
    )
    assert [created for _, created in results].count(True) == 1
    assert statements[: statements.index("INSERT")].count("SELECT") == 1
    assert statements.count("INSERT") == 1


@shared
async def test_a_server_that_is_out_of_reach(engine: AsyncEngine, way: str) -> None:
    """Each call raises what the attempt to connect has raised."""
    await engine.dispose()

    def refuse(*_: object) -> None:
        msg = "no route to host"
        raise OSError(msg)

    event.listen(engine.sync_engine, "do_connect", refuse)
    creator = creators.make(engine, way)
    calls = [creator.get_or_create(Tag, name=name) for name in ("x", "x", "y")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results] == ["no route to host"] * 3
    assert all(isinstance(result, OSError) for result in results)
