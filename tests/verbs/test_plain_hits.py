"""A row that is there is found by less than a missing one, and no caller can tell."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from backends import Sessions, by_savepoint, on_postgres, on_sqlite
from models import Author, Book, Tag
from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError, MultipleResultsFound
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState, joinedload
from sqlalchemy.util import await_only
from waiting import sent

from async_goc import KeyedLocks, Policy, get_or_create
from async_goc.exceptions import ContradictionError, UnknownFieldError


async def test_miss_looks_once(session: AsyncSession, statements: list[str]) -> None:
    """A missing row is not looked for again on the general way.

    Fails without `looked` in `find_or_create`.
    """
    for name in ("red", "green"):
        await get_or_create(session, Tag, name=name)
        statements.clear()
    _, created = await get_or_create(session, Tag, name="blue")
    assert created
    assert sum(sql.startswith("SELECT") for sql in statements) == 1


@on_postgres
async def test_released_since_the_look(engine: AsyncEngine, sessions: Sessions) -> None:
    """The row may come between the SELECT and the queue, with no call to wait for.

    Fails if `looked` in `get_or_create` is when the look has ended.
    """
    policy = Policy(locks=KeyedLocks())

    async def call(name: str) -> bool:
        async with sessions.begin() as session:
            await session.connection()
            return (await get_or_create(session, Tag, name=name, policy=policy))[1]

    assert await call("known")  # From now on, such a call is a plain one.
    event.listen(
        engine.sync_engine,
        "after_cursor_execute",
        lambda *_: await_only(call("red")),
        once=True,
    )
    counts = sent(engine)
    assert not await call("red")
    assert (counts["SELECT"], counts["INSERT"]) == (3, 1)


@pytest.mark.parametrize(
    ("defaults", "error"),
    [
        ({"nothing": 1}, UnknownFieldError),
        ({"name": "green"}, ContradictionError),
        ([("colour", "f00")], TypeError),
    ],
)
async def test_defaults_are_checked(
    session: AsyncSession, statements: list[str], defaults: Any, error: type[Exception]
) -> None:
    """What is illegal among the defaults fails before any SQL, also on a hit.

    Fails without `has_no_say` in `plain_start`.
    """
    legal: list[Any] = [{"colour": "f00"}, {Tag.colour: "f00"}, dict]
    for each in (*legal, *legal):
        await get_or_create(session, Tag, name="red", defaults=each)
    statements.clear()
    with pytest.raises(error):
        await get_or_create(session, Tag, name="red", defaults=defaults)
    assert not statements


@on_postgres
async def test_second_task(session: AsyncSession) -> None:
    """A call in another task is refused while the session is looking.

    Fails without `claim_for_look` in `look_plainly`.
    """
    await get_or_create(session, Tag, name="red")
    calls = [get_or_create(session, Tag, name="red") for _ in range(2)]
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert isinstance(second, InvalidRequestError)
    assert "in use by a call in another task" in str(second)


@on_postgres
async def test_listener_that_calls(session: AsyncSession) -> None:
    """A listener in a look may call in the same session, and that call may do all.

    Fails without `current_task` in `_is_around`.
    """
    red, _ = await get_or_create(session, Tag, name="red")
    await session.commit()
    await session.connection()
    created: list[bool] = []

    def ask(tag: Tag, *_: Any) -> None:
        if tag is red:
            call = get_or_create(session, Tag, name="blue")
            created.append(await_only(call)[1])

    event.listen(Tag, "refresh", ask)
    try:
        assert await get_or_create(session, Tag, name="red") == (red, False)
    finally:
        event.remove(Tag, "refresh", ask)
    assert created == [True]


@on_sqlite
@by_savepoint
@pytest.mark.parametrize(
    ("policy", "error"), [(Policy(advisory_lock=True), ValueError), ("none", TypeError)]
)
async def test_policies_are_checked(
    session: AsyncSession, statements: list[str], policy: Any, error: type[Exception]
) -> None:
    """A policy that a miss would refuse is refused by a hit, before any SQL.

    Fails without `advisory_lock`, and without `isinstance`, in `plain_start`.
    """
    await get_or_create(session, Tag, name="red")
    await get_or_create(session, Tag, name="red")
    statements.clear()
    with pytest.raises(error):
        await get_or_create(session, Tag, name="red", policy=policy)
    assert not statements


@on_sqlite
@by_savepoint
async def test_listener_that_adds_options(session: AsyncSession) -> None:
    """A listener may let the SELECT join a collection, which repeats the row.

    Fails without `do_orm_execute` in `plain_start`.
    """
    ann, _ = await get_or_create(session, Author, name="ann")
    session.add_all([Book(title=title, author=ann) for title in "ab"])
    await session.flush()
    session.expire_all()

    def join(state: ORMExecuteState) -> None:
        statement: Any = state.statement
        state.statement = statement.options(joinedload(Author.books))

    event.listen(session.sync_session, "do_orm_execute", join)
    found, created = await get_or_create(session, Author, name="ann")
    assert not created
    assert len(found.books) == 2


@on_sqlite
@by_savepoint
async def test_duplicates(session: AsyncSession) -> None:
    """A database that lost the constraint has several rows: an error with a note.

    Fails without `only_one` in `look_plainly`.
    """
    connection = await session.connection()
    await connection.exec_driver_sql("ALTER TABLE tag RENAME TO old")
    columns = "id INTEGER PRIMARY KEY, name, slug, colour, made_at, note"
    await connection.exec_driver_sql(f"CREATE TABLE tag ({columns})")
    for _ in range(2):
        await connection.exec_driver_sql("INSERT INTO tag (name) VALUES ('red')")
    await get_or_create(session, Tag, name="blue")
    with pytest.raises(MultipleResultsFound) as raised:
        await get_or_create(session, Tag, name="red")
    assert "several Tag" in raised.value.__notes__[0]


@on_sqlite
@by_savepoint
async def test_loops(session: AsyncSession) -> None:
    """Under trio, or without any event loop, the error says what is missing.

    Fails without `check_loop` in `plain_start`.
    """
    await get_or_create(session, Tag, name="red")
    policy = Policy(locks=None)
    call = get_or_create(AsyncSession(), Tag, name="red", policy=policy)
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(call.send, None)
    with pytest.raises(RuntimeError, match="needs asyncio"):
        ended.result()
