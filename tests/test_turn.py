"""Duplicates in one process cost one INSERT."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from conftest import Sessions, on_postgres, on_sqlite
from models import Author, Book, Tag
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import selectinload
from sqlalchemy.util import await_only
from waiting import sent, until

from async_goc import (
    Event,
    KeyedLocks,
    Outcome,
    Policy,
    Stats,
    exceptions,
    get_or_create,
)


@pytest.fixture
async def ten(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with ten connections."""
    engine = create_async_engine(url, pool_size=10, max_overflow=0)
    yield engine
    await engine.dispose()


@on_postgres
async def test_fifty_requests_cost_one_insert(
    ten: AsyncEngine, locks: KeyedLocks, policy: Policy, stats: Stats
) -> None:
    """49 wait for the creator's commit, and hold no connection meanwhile.

    It fails with `turn.reserve()`, or with `turn.created()`, taken out of the loop.
    """
    counts = sent(ten)
    unrelated = asyncio.Event()

    async def request() -> bool:
        async with AsyncSession(ten) as session, session.begin():
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
            if created:
                await unrelated.wait()
        return created

    requests = [asyncio.create_task(request()) for _ in range(50)]
    await until(lambda: locks.statistics().waiting == 49 and stats["created"])
    assert ten.pool.checkedout() == 1
    unrelated.set()
    assert sum(await asyncio.gather(*requests)) == 1
    assert counts["INSERT"] == 1
    assert counts["IntegrityError"] == 0
    assert stats["waited_hit"] == 49
    figures = locks.statistics()
    assert (figures.held, figures.waiting, figures.collapsed) == (0, 0, 49)
    assert (figures.acquired, figures.waited) == (1, 49)


@on_postgres
async def test_one_creator_after_the_other(
    ten: AsyncEngine, locks: KeyedLocks, policy: Policy
) -> None:
    """Two creators roll back: three INSERTs, no violation, and 48 read the third."""
    counts = sent(ten)
    creators = 0

    async def request() -> bool:
        nonlocal creators
        async with AsyncSession(ten) as session:
            _, created = await get_or_create(session, Tag, name="x", policy=policy)
            creators += created
            if not created:
                return False
            await until(lambda: locks.statistics().waiting == 50 - creators)
            if creators < 3:
                await session.rollback()
                return True
            await session.commit()
        return True

    assert sum(await asyncio.gather(*(request() for _ in range(50)))) == 3
    assert counts["INSERT"] == 3
    assert counts["IntegrityError"] == 0


@pytest.mark.parametrize("has_registry", [True, False])
@on_postgres
async def test_slow_defaults_run_once(
    sessions: Sessions, locks: KeyedLocks, policy: Policy, has_registry: bool
) -> None:
    """Who waits for the row does not ask a slow service for its values, too."""
    policy = policy if has_registry else replace(policy, locks=None)
    calls = 0

    async def colour() -> str:
        nonlocal calls
        calls += 1
        expected = locks.statistics if has_registry else None
        await until(lambda: calls == 5 or (expected and expected().waiting == 4))
        return "blue"

    async def request() -> str | None:
        async with sessions.begin() as session:
            defaults = {"colour": colour}
            tag, _ = await get_or_create(
                session, Tag, name="x", defaults=defaults, policy=policy
            )
            return tag.colour

    colours = await asyncio.gather(*(request() for _ in range(5)))
    assert colours == ["blue"] * 5
    assert calls == (1 if has_registry else 5)


@on_postgres
async def test_timeout(
    sessions: Sessions,
    policy: Policy,
    locks: KeyedLocks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After wait_timeout the database decides, and a log record says who held what."""
    events: list[Event] = []
    brief = replace(policy, wait_timeout=0.01, observer=events.append)
    with caplog.at_level(logging.WARNING, logger="async_goc"):
        async with sessions() as first, sessions() as second:
            await get_or_create(first, Tag, name="secret", policy=policy)
            call = asyncio.create_task(
                get_or_create(second, Tag, name="secret", policy=brief)
            )
            await until(lambda: locks.statistics().timeouts)
            await first.commit()
            tag, created = await call
    assert (tag.name, created) == ("secret", False)
    [happened] = events
    assert happened.outcome in {Outcome.LOST_RACE, Outcome.WAITED_HIT}
    assert 0.01 <= happened.waited < happened.elapsed
    [record] = caplog.records
    assert record.name == "async_goc"
    assert "Tag (name)" in record.getMessage()
    assert "secret" not in record.getMessage()


@on_postgres
async def test_who_goes_on_without_the_key_is_waited_for(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """After a timeout, and the owner's rollback, the call creates the row, and holds.

    It fails with `take` taken out of `Turn.created`.
    """
    brief = replace(policy, wait_timeout=0.01)
    async with sessions() as first, sessions() as second, sessions() as third:
        await get_or_create(first, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(second, Tag, name="x", policy=brief))
        await until(lambda: locks.statistics().timeouts)
        await first.rollback()
        _, created = await call
        assert created
        call = asyncio.create_task(get_or_create(third, Tag, name="x", policy=policy))
        await until(lambda: locks.statistics().waiting)
        await second.commit()
        _, created = await call
        assert not created
    assert locks.statistics().held == 0


@on_postgres
async def test_a_row_that_the_snapshot_hides(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Told of a row that it cannot see, a call asks for the key, and gives it back.

    It fails with `_has_key` set in `Turn._take` by the answer alone.
    """
    async with sessions() as first, sessions() as second:
        await second.connection(
            execution_options={"isolation_level": "REPEATABLE READ"}
        )
        await second.execute(select(Tag))
        await get_or_create(first, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(second, Tag, name="x", policy=policy))
        await until(lambda: locks.statistics().waiting)
        await first.commit()
        with pytest.raises(exceptions.SnapshotConflictError):
            await call
        assert locks.statistics().acquired == 2
        assert locks.statistics().held == 0


@on_sqlite
async def test_timeout_names_what_sqlite_queues_for(
    sessions: Sessions, policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    """On SQLite that is the database, and there the call waits on."""
    brief = replace(policy, wait_timeout=0)
    async with sessions() as first, sessions() as second:
        await get_or_create(first, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(second, Tag, name="y", policy=brief))
        await until(lambda: caplog.records)
        await first.commit()
        _, created = await call
        await second.commit()
    assert created
    assert "Tag (all rows: the database has one writer)" in caplog.text


@on_postgres
async def test_hits_do_not_queue(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """A session with a connection looks first; one without knows what exists."""
    async with sessions.begin() as session:
        await get_or_create(session, Tag, name="x", policy=policy)
    async with sessions() as session:
        await get_or_create(session, Tag, name="x", policy=policy)
        await session.rollback()
        await session.connection()
        await get_or_create(session, Tag, name="x", policy=policy)
    assert locks.statistics().acquired == 1


@on_postgres
async def test_released_since_the_look(
    engine: AsyncEngine, policy: Policy, stats: Stats
) -> None:
    """The row may have come between the look and the queue, with nobody to wait for.

    It fails with `has_changed` taken out of `Turn.comes`.
    """
    counts = sent(engine)

    async def rival() -> None:
        async with AsyncSession(engine) as other, other.begin():
            await get_or_create(other, Tag, name="x", policy=policy)

    def run(*_: object) -> None:
        await_only(rival())

    async with AsyncSession(engine) as session:
        await session.connection()
        event.listen(engine.sync_engine, "after_cursor_execute", run, once=True)
        _, created = await get_or_create(session, Tag, name="x", policy=policy)
    assert not created
    assert (counts["INSERT"], stats["lost_race"]) == (1, 0)


@on_sqlite
async def test_sqlite_hits_keep_the_writers_waiting(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Here, that is: the hit has begun a transaction, and the file is locked.

    It fails with `_keep` taken out of `Turn.__exit__`.
    """
    async with sessions.begin() as session:
        session.add(Tag(name="x"))
    async with sessions() as one, sessions() as other:
        await get_or_create(one, Tag, name="x", policy=policy)
        call = asyncio.create_task(get_or_create(other, Tag, name="y", policy=policy))
        await until(lambda: locks.statistics().waiting == 1)
        await one.commit()
        await call
        await other.commit()
    assert locks.statistics().held == 0


@on_sqlite
async def test_an_engine_that_begins_nothing_keeps_nobody_waiting(
    url: str, policy: Policy, locks: KeyedLocks
) -> None:
    """Unconfigured, a look begins no transaction; so the key goes with the call."""
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session, session.begin():
        session.add(Tag(name="x"))
    async with AsyncSession(engine) as session:
        await get_or_create(session, Tag, name="x", policy=policy)
        assert locks.statistics().held == 0
    await engine.dispose()


@on_postgres
async def test_rows_known_to_exist_may_have_gone(
    engine: AsyncEngine, sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """A deleted row is created again; who asks next waits without a connection.

    It fails with `forget` taken out of `Turn.comes`.
    """
    async with sessions.begin() as session:
        tag, _ = await get_or_create(session, Tag, name="x", policy=policy)
        await session.delete(tag)
        await session.flush()
        await get_or_create(session, Tag, name="x", policy=policy)
    async with sessions.begin() as session:
        await session.delete(await session.get_one(Tag, (await _only(session)).id))

    async with sessions() as first, sessions() as second:
        _, created = await get_or_create(first, Tag, name="x", policy=policy)
        assert created
        call = asyncio.create_task(get_or_create(second, Tag, name="x", policy=policy))
        await until(lambda: locks.statistics().waiting)
        assert engine.pool.checkedout() == 1
        await first.commit()
        _, created = await call
        assert not created


async def _only(session: AsyncSession) -> Tag:
    return (await session.scalars(select(Tag))).one()


@on_postgres
async def test_finders_share_what_they_find(
    sessions: Sessions, policy: Policy, stats: Stats, locks: KeyedLocks
) -> None:
    """The first of many looks; the others then read in parallel: no creator, hits."""
    async with sessions.begin() as session:
        session.add(Tag(name="x"))

    async def request() -> None:
        async with sessions.begin() as session:
            await get_or_create(session, Tag, name="x", policy=policy)

    await asyncio.gather(*(request() for _ in range(10)))
    assert locks.statistics().acquired == 1
    assert stats["hit"] == 10


@on_postgres
async def test_hold_for_the_call(
    sessions: Sessions, policy: Policy, locks: KeyedLocks, stats: Stats
) -> None:
    """hold="call" lets the next one go on at once; it meets the row in the database."""
    brief = replace(policy, hold="call")
    async with sessions() as first, sessions() as second:
        await get_or_create(first, Tag, name="x", policy=brief)
        assert locks.statistics().held == 0
        call = asyncio.create_task(
            get_or_create(second, Tag, name="x", policy=replace(policy, hold="call"))
        )
        await until(lambda: locks.statistics().acquired == 2)
        await first.commit()
        _, created = await call
    assert not created
    assert locks.statistics().waited == 0
    assert stats["created"] == 1


@on_postgres
async def test_namespaces_do_not_meet(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Tenants that only the connection tells apart do not wait for each other here."""
    async with sessions() as one, sessions() as other:
        await get_or_create(
            one, Tag, name="x", policy=replace(policy, namespace="tenant 1")
        )
        call = asyncio.create_task(
            get_or_create(
                other, Tag, name="x", policy=replace(policy, namespace="tenant 2")
            )
        )
        await until(lambda: locks.statistics().held == 2)
        await one.commit()
        await call
        await other.commit()
    assert locks.statistics().waited == 0


async def test_without_a_registry(sessions: Sessions, policy: Policy) -> None:
    """locks=None: calls meet in the database only."""
    async with sessions.begin() as session:
        alone = replace(policy, locks=None)
        _, created = await get_or_create(session, Tag, name="x", policy=alone)
        assert created


async def test_same_session(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """A session never waits for itself: asking again, after a delete, in defaults."""
    tag, _ = await get_or_create(session, Tag, name="x", policy=policy)
    await session.delete(tag)
    await session.flush()

    async def colour() -> str:
        inner, created = await get_or_create(
            session, Tag, name="x", defaults={"colour": "inner"}, policy=policy
        )
        assert created
        return f"from {inner.colour}"

    tag, created = await get_or_create(
        session, Tag, name="x", defaults={"colour": colour}, policy=policy
    )
    assert (tag.colour, created) == ("inner", False)
    assert locks.statistics().held == 1
    await session.commit()
    figures = locks.statistics()
    assert (figures.held, figures.waited) == (0, 0)


@on_postgres
async def test_followers_honour_what_they_asked_for(
    sessions: Sessions, policy: Policy, locks: KeyedLocks
) -> None:
    """Who has waited gets its options and its own defaults' checks, like any hit."""
    async with sessions.begin() as session:
        session.add(Author(name="ann"))

    async def request() -> int:
        async with sessions() as session:
            ann = (await session.scalars(select(Author))).one()
            book, created = await get_or_create(
                session,
                Book,
                author=ann,
                title="x",
                options=[selectinload(Book.reviews)],
                policy=policy,
            )
            if created:
                await until(lambda: locks.statistics().waiting == 4)
            assert book.reviews == []
            await session.commit()
        return created

    assert sum(await asyncio.gather(*(request() for _ in range(5)))) == 1
    assert locks.statistics().collapsed == 4


@on_postgres
async def test_a_pending_parent_has_no_key_at_first(
    session: AsyncSession, policy: Policy, locks: KeyedLocks
) -> None:
    """It gets one when the call has flushed it."""
    ann = Author(name="ann")
    session.add(ann)
    await get_or_create(session, Book, author=ann, title="x", policy=policy)
    assert locks.statistics().held == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"locks": "none"},
        {"hold": "forever"},
        {"wait_timeout": -1},
        {"wait_timeout": float("nan")},
        {"namespace": []},
    ],
)
def test_policies_are_checked(arguments: dict[str, Any]) -> None:
    """A value out of its range says what to give."""
    with pytest.raises((TypeError, ValueError), match="; give "):
        Policy(**arguments)
