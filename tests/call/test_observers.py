"""What observers are told of the start, and several of them at once."""

import asyncio
import pickle
from typing import Any

import creators
import pytest
from backends import before_sql, on_postgres, on_sqlite
from models import Tag
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from waiting import until
from words import Word

from async_goc import (
    Event,
    GetOrCreator,
    Outcome,
    Policy,
    Stats,
    exceptions,
    get_or_create,
    get_or_create_many,
    observers,
    run_in_transaction,
    update_or_create,
    update_or_create_many,
)

ROWS = [{"name": name} for name in ("b", "a", "b", "c")]


class Watcher:
    """An observer that keeps all that it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def started(self, verb: str, model: type[object]) -> object:
        token = object()
        self.told += [(verb, model, token)]
        return token

    def __call__(self, event: Event, /) -> None:
        self.told += [event]

    @property
    def events(self) -> list[Event]:
        """The events; each was told of before, with its token."""
        events = [each for each in self.told if isinstance(each, Event)]
        starts = [each for each in self.told if not isinstance(each, Event)]
        assert {(e.verb, e.model, e.token) for e in events} == set(starts)
        assert len(events) == len(starts)
        return events


def counts(watcher: Watcher) -> list[tuple[str, int, int]]:
    return [(event.outcome, event.rows, event.created) for event in watcher.events]


@on_sqlite
async def test_rows_of_calls_in_a_session(session: AsyncSession) -> None:
    """Each verb says how many rows it was for, and how many it has created."""
    watcher = Watcher()
    how: Any = {"policy": Policy(observer=watcher)}
    words = list[Word]()  # The session does not keep them.
    for _ in range(2):
        await get_or_create(session, Tag, name="x", **how)
        await update_or_create(session, Tag, name="y", **how)
        words += [await Word.as_unique(session, text="sun", **how)]
        await get_or_create_many(session, Tag, ROWS, key="name", **how)
        await update_or_create_many(session, Tag, [{"name": "z"}], key="name", **how)
    await get_or_create_many(session, Tag, iter([]), key="name", **how)
    await get_or_create_many(session, Tag, [*ROWS, {"name": "d"}], key="name", **how)
    created = [("created", 1, 1)] * 3 + [("created", 4, 3), ("created", 1, 1)]
    found = [("hit", 1, 0), ("updated", 1, 0), ("cached", 1, 0), ("hit", 4, 0)]
    rest = [("hit", 1, 0), ("hit", 0, 0), ("created", 5, 1)]
    assert counts(watcher) == [*created, *found, *rest]
    assert {event.database for event in watcher.events} == {"sqlite"}


@on_sqlite
async def test_rows_of_calls_that_fail(
    session: AsyncSession, engine: AsyncEngine
) -> None:
    """None is created by a call that fails; it may fail before it has read them."""
    watcher = Watcher()
    how: Any = {"policy": Policy(observer=watcher)}
    creator = GetOrCreator(async_sessionmaker(engine))
    bad: Any = [*ROWS, {"name": "bad", "colour": "bad"}]
    wrong: Any = 1
    with pytest.raises(Exception, match="good_colour"):
        await get_or_create_many(session, Tag, bad, key="name", **how)
    await session.rollback()
    with pytest.raises(Exception, match="good_colour"):
        await creator.get_or_create_many(Tag, bad, key="name", **how)
    with pytest.raises(exceptions.UnknownFieldError):
        await get_or_create(session, Tag, nmae="x", **how)
    with pytest.raises(TypeError):
        await creator.get_or_create_many(Tag, wrong, key="name", **how)
    failed = [(5, 0), (5, 0), (1, 0), (0, 0)]
    assert counts(watcher) == [(Outcome.FAILED, *each) for each in failed]


@on_sqlite
@pytest.mark.parametrize("way", ["direct", "session", "batch"])
async def test_rows_of_a_creators_calls(engine: AsyncEngine, way: str) -> None:
    """Each call has a token and an event of its own, whoever asked for it."""
    watcher = Watcher()
    creator = creators.make(engine, way, policy=Policy(observer=watcher))
    names = ("x", "x", "y", "x")
    await creators.at_once(creator.get_or_create(Tag, name=name) for name in names)
    told = watcher.events
    assert [event.rows for event in told] == [1] * 4
    assert sum(event.created for event in told) == 2
    assert {e.created for e in told if e.outcome is Outcome.CREATED} == {1}
    watcher.told.clear()
    await creator.get_or_create_many(Tag, ROWS, key="name")
    await creator.update_or_create_many(Tag, [{"name": "z"}, *ROWS], key="name")
    await creator.update_or_create(Tag, name="z")
    assert counts(watcher) == [("created", 4, 3), ("created", 5, 1), ("updated", 1, 0)]
    assert {event.database for event in watcher.events} == {"sqlite"}


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_what_is_told_of_afterwards(engine: AsyncEngine) -> None:
    """An attempt that failed is reported when it has failed, and has no token."""
    watcher, events = Watcher(), list[Event]()
    policy = Policy(observer=observers(watcher, events.append))
    sessions = async_sessionmaker(engine, info={"async_goc.policy": policy})
    again = [True]

    async def work(session: AsyncSession) -> None:
        if again.pop():
            statement = "DO $$ BEGIN RAISE 'no' USING ERRCODE = '40001'; END $$"
            again.append(False)
            await session.execute(text(statement))

    await run_in_transaction(sessions, work)
    assert watcher.told == events
    told = [(e.verb, e.rows, e.created, e.database, e.token) for e in events]
    assert told == [("run_in_transaction", 0, 0, "postgresql", None)]


@before_sql
async def test_starts_that_raise(
    session: AsyncSession, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, nothing else notices, and the event has no token."""
    watcher, stats = Watcher(), Stats()

    class Broken(Watcher):
        def started(self, verb: str, model: type[object]) -> object:
            raise LookupError(verb, model)

    broken = Broken()
    for observer in (broken, observers(stats, broken, watcher)):
        policy = Policy(observer=observer)
        with pytest.raises(exceptions.UnknownFieldError):
            await get_or_create(session, Tag, nmae="red", policy=policy)
    assert [event.token for event in broken.told] == [None, None]
    assert (stats["failed"], len(watcher.events)) == (1, 1)
    text = "the observer of get_or_create(Tag) raised an exception"
    assert [text in each.getMessage() for each in caplog.records] == [True, True]


@before_sql
async def test_several_observers(
    session: AsyncSession, caplog: pytest.LogCaptureFixture
) -> None:
    """They begin in order, and end as contexts do; one that raises stops no other."""
    order: list[str] = []

    class Named:
        started: Any

        def __init__(self, name: str) -> None:
            self.started = lambda *_: order.append(f"{name} starts") or name
            self.name = name

        def __call__(self, event: Event, /) -> None:
            order.append(f"{event.token} ends")
            assert event.token == self.name

    class Odd:
        """What it calls so is no method."""

        started = 0.0

        def __call__(self, event: Event, /) -> None:
            assert event.token is None
            raise LookupError

    policy = Policy(observer=observers(Named("a"), Odd(), Named("b")))
    with pytest.raises(exceptions.UnknownFieldError):
        await get_or_create(session, Tag, nmae="red", policy=policy)
    assert order == ["a starts", "b starts", "b ends", "a ends"]
    assert len(caplog.records) == 1


def test_several_observers_are_a_value() -> None:
    """Equal ones make equal policies, which travel; what is no observer is refused."""
    assert Policy(observer=observers(print)) == Policy(observer=observers(print))
    assert hash(observers(print, len)) == hash(observers(print, len))
    assert pickle.loads(pickle.dumps(observers(print))) == observers(print)  # noqa: S301
    wrong: Any = None
    with pytest.raises(TypeError, match="observer is of type NoneType; give a call"):
        observers(print, wrong)


@on_postgres
async def test_a_cancelled_call_is_told_of(engine: AsyncEngine) -> None:
    """A call that waits for another, and is cancelled, has its event."""
    watcher = Watcher()
    creator = creators.make(engine, policy=Policy(observer=watcher))
    door = creators.Door()
    leader = asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=door))
    waiter = asyncio.create_task(creator.get_or_create(Tag, name="x"))
    await until(lambda: door.came)
    waiter.cancel()
    await asyncio.wait([waiter])
    door.open()
    await leader
    outcomes = [event.outcome for event in watcher.events]
    assert outcomes == [Outcome.FAILED, Outcome.CREATED]
