"""One object per key and session, and never a dead one."""

import gc
from weakref import WeakSet

import pytest
from backends import Sessions
from sqlalchemy import (
    delete,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    selectinload,
)
from words import Form, Word, ask

from async_goc import Event, Policy

pytestmark = pytest.mark.one_driver


async def test_the_second_call_costs_nothing(
    session: AsyncSession, statements: list[str]
) -> None:
    """The same object, without SQL; also one that was found, and a falsy one."""
    word = await Word.as_unique(session, text="sun", defaults={"note": "first"})
    statements.clear()
    again = await Word.as_unique(session, text="sun", defaults={"note": "second"})
    assert again is word
    assert word.note == "first"
    assert statements == []
    await session.commit()
    await session.refresh(word)
    statements.clear()
    assert await ask(session) is word
    assert statements == []


async def test_outcomes(session: AsyncSession) -> None:
    """One event for each call."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    words = [
        await Word.as_unique(session, text="sun", policy=policy, options=options)
        for options in ((), (), (selectinload(Word.forms),))
    ]
    assert words[0] is words[1] is words[2]
    assert {event.verb for event in events} == {"as_unique"}
    assert [event.outcome for event in events] == ["created", "cached", "hit"]


async def test_rollback(session: AsyncSession) -> None:
    """After a rollback, an object that was created is not returned again."""
    word = await ask(session)
    await session.rollback()
    again = await ask(session)
    assert again is not word
    assert inspect(again).persistent


async def test_rollback_of_a_savepoint(session: AsyncSession) -> None:
    """Created inside, or only found inside: either is gone with it.

    Fails without `_on_rollback`, for the one that was found.
    """
    for make in (ask, _insert_and_ask):
        savepoint = await session.begin_nested()
        word = await make(session)
        await savepoint.rollback()
        again = await ask(session)
        assert again is not word
        assert await session.scalar(select(func.count(Word.id))) == 1
        await session.delete(again)
        await session.flush()


async def _insert_and_ask(session: AsyncSession) -> Word:
    await session.execute(insert(Word.__table__).values(id=99, text="sun"))
    return await ask(session)


async def test_commit_that_expires(sessions: Sessions, statements: list[str]) -> None:
    """The row may have changed since: it is asked for again, and readable."""
    async with sessions() as session:
        word = await ask(session)
        await session.commit()
        statements.clear()
        assert await ask(session) is word
        assert statements == ["SELECT"]
        assert word.text == "sun"


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_delete(session: AsyncSession, *, is_flushed: bool) -> None:
    """A deleted object is not handed out, flushed or not."""
    word = await ask(session)
    await session.delete(word)
    if is_flushed:
        await session.flush()
    again = await ask(session)
    assert again is not word
    assert again in session


async def test_delete_by_statement(session: AsyncSession) -> None:
    """An object whose row a statement has deleted is not handed out."""
    word = await ask(session)
    await session.execute(delete(Word))
    assert await ask(session) is not word


@pytest.mark.parametrize("end", ["expunge", "expunge_all", "close"])
async def test_out_of_the_session(session: AsyncSession, end: str) -> None:
    """A detached object is not this session's."""
    word = await ask(session)
    await session.commit()
    await session.refresh(word)
    if end == "expunge":
        session.expunge(word)
    elif end == "expunge_all":
        session.expunge_all()
    else:
        await session.close()
    again = await ask(session)
    assert again is not word
    assert again in session


async def test_column_that_is_not_loaded(
    session: AsyncSession, statements: list[str]
) -> None:
    """All columns of the returned object can be read."""
    word = await Word.as_unique(session, text="sun", defaults={"note": "n"})
    session.expire(word, ["note"])
    statements.clear()
    assert await ask(session) is word
    assert word.note == "n"
    assert statements == ["SELECT"]


async def test_parents_are_not_kept_alive(session: AsyncSession) -> None:
    """Parents in a key are not kept alive, nor what they refer to."""
    word = await ask(session)
    await Form.as_unique(session, word=word, case="plural")
    assert len(session.info["async_goc.unique"]) == 2
    await session.commit()
    del word
    gc.collect()
    assert not session.info["async_goc.unique"]


async def test_the_entry_of_another(
    session: AsyncSession, statements: list[str]
) -> None:
    """An object that goes takes its own entry along, and no other's."""
    word = await ask(session)
    await session.flush()
    session.expunge(word)
    again = await ask(session)
    del word
    gc.collect()
    statements.clear()
    assert await ask(session) is again
    assert statements == []


async def test_nothing_is_kept_alive(session: AsyncSession) -> None:
    """A hundred keys: objects that nothing refers to go, with their entries."""
    alive: WeakSet[Word] = WeakSet()
    mine = await ask(session)
    for number in range(100):
        alive.add(await ask(session, f"word {number}"))
    # The transaction remembers what is new in it, weakly.
    gc.collect()
    assert len(alive) == 0
    assert len(session.info["async_goc.unique"]) == 1
    assert await ask(session) is mine


async def test_a_session_each(sessions: Sessions) -> None:
    """Another session has an object of its own."""
    async with sessions.begin() as session:
        word = await ask(session)
    async with sessions() as session:
        assert await ask(session) is not word
