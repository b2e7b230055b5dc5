"""A call gives up waiting for a rival's uncommitted row, and nothing else is lost."""

import asyncio
import itertools
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import innodb
import pytest
from backends import Sessions, by_savepoint, on_mariadb, on_postgres, on_sqlite
from creators import make
from models import Author, Employee, Person, Review, Tag
from rivals import after_rival
from rows import count
from sqlalchemy import Connection, event, insert, select, text, update
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    OperationalError,
    PendingRollbackError,
)
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    create_async_engine,
)
from words import Word

from async_goc import (
    Event,
    Policy,
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)
from async_goc._databases import asks_to_run_again
from async_goc.exceptions import RivalTimeoutError, SnapshotConflictError

Verb = Callable[..., Awaitable[Any]]
SETTING = text("SELECT current_setting('lock_timeout')")
WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


async def get(session: Any, name: str, policy: Policy, **values: Any) -> Any:
    how: Any = {"defaults": values, "policy": policy}
    return await get_or_create(session, Tag, name=name, **how)


async def lock(session: Any, name: str, policy: Policy, **values: Any) -> Any:
    how: Any = {"defaults": values, "policy": policy, "with_for_update": True}
    return await get_or_create(session, Tag, name=name, **how)


async def change(session: Any, name: str, policy: Policy, **values: Any) -> Any:
    how: Any = {"defaults": values, "policy": policy}
    return await update_or_create(session, Tag, name=name, **how)


async def get_many(session: Any, name: str, policy: Policy, **values: Any) -> Any:
    rows = [{"name": "_"}, {"name": name, **values}]
    return await get_or_create_many(session, Tag, rows, key="name", policy=policy)


async def change_many(session: Any, name: str, policy: Policy, **values: Any) -> Any:
    rows = [{"name": "_"}, {"name": name, **values}]
    return await update_or_create_many(session, Tag, rows, key="name", policy=policy)


async def get_parents(session: Any, name: str, policy: Policy, **_: Any) -> Any:
    """A row that only a flush can insert, among many."""
    rows = [{"name": "_", "books": []}, {"name": name, "books": []}]
    return await get_or_create_many(session, Author, rows, key="name", policy=policy)


async def get_person(session: Any, name: str, policy: Policy, **_: Any) -> Any:
    return await get_or_create(session, Person, name=name, policy=policy)


async def unique(session: Any, name: str, policy: Policy, **_: Any) -> Any:
    return await Word.as_unique(session, text=name, policy=policy)


INSERTING = [get, lock, change, get_many, change_many, get_parents, unique]
LOCKING = [lock, change, change_many]


@asynccontextmanager
async def open_rival(engine: AsyncEngine, *work: Any) -> AsyncIterator[AsyncConnection]:
    """A connection that has executed *work*, and does not commit."""
    async with engine.connect() as rival:
        for statement in work:
            await rival.execute(statement)
        yield rival


def holding(name: str) -> list[Any]:
    rows = [insert(Author).values(name=name), insert(Word).values(text=name)]
    return [insert(Tag).values(name=name), *rows]


@on_postgres
async def test_earlier_writes_are_kept(engine: AsyncEngine, sessions: Sessions) -> None:
    """Each verb gives up; the transaction goes on, with the caller's own setting.

    Fails without `limiting_waits` in `_flush`, without `limiting_waits` in
    `_insert_in_time`, and without `has_limit` in `strategy_for`.
    """
    events: list[Event] = []
    policy = Policy(lock_timeout=0.02, observer=events.append)
    async with open_rival(engine, *holding("a")), sessions() as session:
        session.add(Tag(name="mine"))
        await session.flush()
        await session.execute(text("SET LOCAL lock_timeout = '7654ms'"))
        for verb in INSERTING:
            with pytest.raises(RivalTimeoutError, match=r"0\.02 s") as raised:
                await verb(session, "a", policy)
            assert await session.scalar(SETTING) == "7654ms"
            assert isinstance(raised.value.__cause__, DBAPIError)
            assert raised.value.lookup in {("name",), ("text",)}
            assert await count(session) == 1
        await session.commit()
        assert await session.scalar(SETTING) == "0"
        assert await count(session) == 1
    assert {event.outcome for event in events} == {"failed"}
    one_row = [e.strategy for e in events if not e.verb.endswith("many")]
    assert set(one_row) == {"savepoint"}


@on_postgres
async def test_rows_that_a_rival_has_locked(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """What locks a row gives up, too; so does what changes one to a rival's value."""
    policy = Policy(lock_timeout=0.02)
    async with sessions.begin() as session:
        session.add_all([Tag(name="a"), Tag(name="b"), Tag(name="_")])
    change_a = update(Tag).where(Tag.name == "a").values(colour="red")
    rival = open_rival(engine, change_a, insert(Tag).values(name="c", slug="taken"))
    async with rival, sessions() as session:
        session.add(Tag(name="mine"))
        tag, _ = await change(session, "b", policy, colour="blue")
        for verb, name in [
            *((verb, "a") for verb in LOCKING),
            *((verb, "b") for verb in (change, change_many)),
        ]:
            with pytest.raises(RivalTimeoutError):
                await verb(session, name, policy, slug="taken")
            assert await session.scalar(SETTING) == "0"
            assert (tag.colour, tag.slug) == ("blue", None)
        assert await get(session, "a", policy)  # It waits for nothing.
        await session.commit()
        assert await count(session) == 4


@on_postgres
async def test_the_setting_after_each_ending(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """Created, lost, updated, refused: the caller's setting is what it was."""
    policy = Policy(lock_timeout=5)
    async with sessions() as session:
        await session.execute(text("SET lock_timeout = '1min'"))
        for verb in INSERTING:
            await verb(session, f"{verb.__name__}", policy)
            assert await session.scalar(SETTING) == "1min"
        for verb in LOCKING:
            await verb(session, "change", policy, colour=verb.__name__)
            assert await session.scalar(SETTING) == "1min"
        how: Any = {"defaults": after_rival(engine, Tag(name="x")), "policy": policy}
        for verb in (get_or_create, update_or_create):
            _, created = await verb(session, Tag, name="x", **how)
            assert not created
            how["defaults"] = {"colour": "green"}
            assert await session.scalar(SETTING) == "1min"
        for verb in (get, change, get_many, change_many):
            with pytest.raises(IntegrityError):
                await verb(session, "y", policy, colour="bad")
            assert await session.scalar(SETTING) == "1min"
        await session.rollback()


@on_postgres
@by_savepoint
async def test_statements(session: AsyncSession, statements: list[str]) -> None:
    """A miss takes two statements more, and a locking lookup four; a hit none."""
    policy = Policy(lock_timeout=5)
    await get(session, "a", policy)
    inserting = ["SAVEPOINT", "SELECT", "INSERT", "SELECT", "RELEASE"]
    assert statements == ["SELECT", *inserting]
    statements.clear()
    await get(session, "a", policy)
    assert statements == ["SELECT"]
    session.expunge_all()
    statements.clear()
    await change(session, "a", policy)
    assert statements == ["SAVEPOINT", *["SELECT"] * 3, "RELEASE"]
    statements.clear()
    await get_many(session, "b", policy)
    assert statements == ["SELECT", *inserting]


@on_postgres
@by_savepoint
@pytest.mark.parametrize("verb", [get, change, get_many])
async def test_cancelled_while_it_waits(
    engine: AsyncEngine, sessions: Sessions, verb: Verb
) -> None:
    """No connection keeps the limit that a cancelled call had set."""
    policy = Policy(lock_timeout=60)
    async with open_rival(engine, *holding("a")) as rival:
        async with sessions() as session:
            call = asyncio.create_task(verb(session, "a", policy))
            while not await rival.scalar(WAITING):
                pass
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        for _ in range(3):
            async with engine.connect() as connection:
                assert await connection.scalar(SETTING) == "0"


@on_postgres
@by_savepoint
async def test_what_is_not_a_rival(engine: AsyncEngine, sessions: Sessions) -> None:
    """Errors of the caller's own rows, of NOWAIT and of a factory stay as they are.

    Fails without `perf_counter` in `limiting_waits`: nothing has waited for 5 seconds.
    """
    policy = Policy(lock_timeout=5)

    def lock_authors(_: object, connection: Connection, __: object) -> None:
        connection.execute(text("LOCK TABLE author NOWAIT"))

    async with open_rival(engine, *holding("a")):
        async with sessions() as session:
            await session.execute(text("SET LOCAL lock_timeout = '10ms'"))
            session.add(Tag(name="a"))
            with pytest.raises(DBAPIError):
                await change(session, "b", policy)
            await session.rollback()
        async with sessions() as session:

            async def factory(**values: Any) -> Tag:
                await session.execute(text("SET LOCAL lock_timeout = '10ms'"))
                await session.execute(insert(Tag).values(name="a"))
                return Tag(**values)

            with pytest.raises(DBAPIError):
                await get_or_create(
                    session, Tag, name="b", factory=factory, policy=policy
                )
        event.listen(Tag, "before_insert", lock_authors)
        try:
            async with sessions() as session:
                with pytest.raises(DBAPIError):
                    await get(session, "b", policy)
        finally:
            event.remove(Tag, "before_insert", lock_authors)
    async with sessions.begin() as session:
        await get(session, "a", policy)
    rival = open_rival(engine, update(Tag).values(colour="red"))
    async with rival, sessions() as session:
        how: Any = {"with_for_update": {"nowait": True}, "policy": policy}
        with pytest.raises(DBAPIError):
            await get_or_create(session, Tag, name="a", **how)


@on_postgres
@by_savepoint
async def test_what_a_factory_has_changed(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """It is put back, and can be read; even a value that was changed in place.

    Fails without `RivalTimeoutError` in `_guarded`.
    """
    session.add(ann := Author(name="Ann", data={"a": 1}))
    await session.commit()
    await session.refresh(ann)
    policy = Policy(lock_timeout=0.02)

    def factory(**values: Any) -> Tag:
        ann.book_count += 1
        ann.data["a"] = 2
        return Tag(**values)

    async with open_rival(engine, insert(Tag).values(name="a")):
        with pytest.raises(RivalTimeoutError):
            await get_or_create(session, Tag, name="a", factory=factory, policy=policy)
    assert (ann.book_count, ann.data) == (0, {"a": 1})


@on_postgres
@by_savepoint
async def test_beyond_the_snapshot(engine: AsyncEngine, sessions: Sessions) -> None:
    """The question whether a row is beyond the snapshot waits no longer, either.

    Fails without `lock_timeout` in `is_beyond_snapshot`.
    """
    limits: list[object] = []

    def note(_connection: Any, _cursor: Any, sql: str, *_: object) -> None:
        if "set_config" in sql:
            limits.append(sql)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    policy, repeatable = Policy(lock_timeout=5), {"isolation_level": "REPEATABLE READ"}
    async with sessions() as session:
        await session.connection(execution_options=repeatable)
        await session.scalar(select(1))
        rival = after_rival(engine, Tag(name="a"))
        with pytest.raises(SnapshotConflictError):
            await get_or_create(session, Tag, name="a", defaults=rival, policy=policy)
        assert await session.scalar(SETTING) == "0"
    assert len(limits) == 2


@on_postgres
@pytest.mark.parametrize(
    ("way", "wait"),
    [("direct", 30), ("direct", None), ("batch", 30), ("batch", None), ("session", 30)],
)
async def test_creators(engine: AsyncEngine, way: str, wait: float | None) -> None:
    """A creator's call gives up as well, whichever way it goes.

    Fails without `limit` in `_ask`, without `limit` in `_find_or_insert`, and without
    `lock_timeout` in `_limit`.
    """
    policy = Policy(lock_timeout=0.02, wait_timeout=wait)
    async with open_rival(engine, *holding("a")), make(engine, way) as creator:
        # After a miss, the next row is looked for and inserted by one statement.
        assert (await creator.get_or_create(Tag, name="c", policy=policy))[1]
        calls = [
            creator.get_or_create(Tag, name="a", policy=policy),
            creator.get_or_create(Tag, name="b", policy=policy),
            creator.update_or_create(Tag, name="a", policy=policy),
            creator.get_or_create_many(Tag, ["a"], key="name", policy=policy),
        ]
        async with asyncio.timeout(10):
            results = await asyncio.gather(*calls, return_exceptions=True)
            # A row was missing, and so this may be one statement that does both.
            with pytest.raises(RivalTimeoutError):
                await creator.get_or_create(Tag, name="a", policy=policy)
    timeout = RivalTimeoutError
    assert [type(result) for result in results] == [timeout, tuple, timeout, timeout]


@pytest.mark.parametrize(
    "backend", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True
)
@by_savepoint
async def test_limits_beyond_the_databases(
    engine: AsyncEngine, session: AsyncSession
) -> None:
    """The shortest limit is one, and the longest is the longest of the database."""
    limits = (0, 1e-9, 10**12, float("inf"))
    for limit in limits:
        _, created = await get(session, f"{limit}", Policy(lock_timeout=limit))
        assert created
    await session.rollback()
    async with make(engine) as creator:
        for limit in limits:
            policy = Policy(wait_timeout=limit)
            _, created = await creator.get_or_create(
                Tag, name=f"{limit}", policy=policy
            )
            assert created


@on_sqlite
async def test_sqlite_has_one_writer(session: AsyncSession) -> None:
    """There, the setting changes nothing."""
    policy = Policy(lock_timeout=0.02)
    for verb in INSERTING:
        for _ in range(2):
            assert await verb(session, verb.__name__, policy) is not None


def test_the_error_is_a_value() -> None:
    """It is a TimeoutError, says what to do, and pickles."""
    error = RivalTimeoutError(Tag, ["name"], 0.3)
    assert isinstance(error, TimeoutError)
    assert "for Policy.lock_timeout (0.3 s), another transaction" in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copy.model, copy.lookup, copy.lock_timeout) == (Tag, ("name",), 0.3)
    assert str(copy) == str(error)


IN_SECONDS = text("SELECT @@innodb_lock_wait_timeout")
WAITING_IN_INNODB = text(
    "SELECT variable_value > 0 FROM information_schema.global_status "
    "WHERE variable_name = 'innodb_row_lock_current_waits'"
)


@on_mariadb
@by_savepoint
async def test_innodb_after_each_ending(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """Created, lost, updated, refused, cancelled: the setting is what it was.

    Fails without `invalidate` in `limited_in_session`.
    """
    policy = Policy(lock_timeout=5)
    async with sessions() as session:
        await session.execute(text("SET innodb_lock_wait_timeout = 77"))
        for verb in INSERTING:
            await verb(session, verb.__name__, policy)
            assert await session.scalar(IN_SECONDS) == 77
        for verb in LOCKING:
            await verb(session, "change", policy, colour=verb.__name__)
            assert await session.scalar(IN_SECONDS) == 77
        await session.commit()
        lost: Any = {"defaults": after_rival(engine, Tag(name="x")), "policy": policy}
        _, created = await get_or_create(session, Tag, name="x", **lost)
        assert not created
        with pytest.raises(DBAPIError):
            await get(session, "y", policy, colour="bad")
        assert await session.scalar(IN_SECONDS) == 77
        await session.execute(text("SET innodb_lock_wait_timeout = DEFAULT"))
        await session.commit()
    async with open_rival(engine, *holding("a")), sessions() as session:
        call = asyncio.create_task(get(session, "a", policy))
        async with engine.connect() as other:
            while not await other.scalar(WAITING_IN_INNODB):
                pass
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    event.listen(Tag, "before_insert", interrupt)
    try:
        async with sessions() as session:
            with pytest.raises(Interruption):
                await get(session, "b", policy)
    finally:
        event.remove(Tag, "before_insert", interrupt)
    for _ in range(3):
        async with engine.connect() as connection:
            assert await connection.scalar(IN_SECONDS) == 50


@pytest.mark.parametrize("backend", ["mysql+asyncmy"], indirect=True)
@by_savepoint
@pytest.mark.parametrize("verb", [get, get_many])
async def test_killed_while_it_waits(
    engine: AsyncEngine, sessions: Sessions, verb: Verb
) -> None:
    """The error is the database's own, by which the work can be run again.

    Fails without `invalidated` in `limited_in_session`.
    """
    async with open_rival(engine, *holding("a")), sessions() as session:
        number = await session.scalar(text("SELECT connection_id()"))
        call = asyncio.create_task(verb(session, "a", Policy(lock_timeout=60)))
        async with engine.connect() as other:
            while not await other.scalar(WAITING_IN_INNODB):
                pass
            await other.exec_driver_sql(f"KILL {number}")
        with pytest.raises(OperationalError) as caught:
            await call
        assert caught.value.connection_invalidated


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["mysql+asyncmy"], indirect=True)
@by_savepoint
@pytest.mark.parametrize(("verb", "model"), [(get_many, Tag), (get_person, Person)])
async def test_innodb_reads_a_rivals_row_in_time(
    sessions: Sessions, verb: Verb, model: Any
) -> None:
    """What was in the way of an INSERT is locked to be seen, which may have to wait.

    Fails without `limiting_lock` in `read_rivals`.
    """
    policy = Policy(lock_timeout=1)
    async with sessions() as session, sessions() as rival:
        assert await count(session, model) == 0  # The snapshot is older than the row.
        await session.execute(text("SET innodb_lock_wait_timeout = 3"))
        rows = tag, employee = Tag(name="a"), Employee(name="a", badge=1)
        rival.add_all(rows)
        await rival.commit()
        for row in rows:
            await rival.refresh(row)
        # By their primary keys: the index of the names is not locked.
        tag.colour, employee.badge = "red", 7
        await rival.flush()
        with pytest.raises(RivalTimeoutError):
            await verb(session, "a", policy)
        assert await session.scalar(IN_SECONDS) == 3
        await session.execute(text("SET innodb_lock_wait_timeout = DEFAULT"))


class Interruption(BaseException):
    """As from the keyboard."""


def interrupt(*_: object) -> None:
    raise Interruption


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("backend", "strategy"),
    [
        ("mysql+asyncmy", "native"),
        ("mysql+aiomysql", "savepoint"),
        ("mysql+asyncmy on mariadb_11", "native"),
        ("mysql+asyncmy on mysql_9", "savepoint"),
        ("mysql+aiomysql on mysql_9", "native"),
    ],
    indirect=True,
)
async def test_innodb_keeps_earlier_writes(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """Each verb gives up, after a second at least; the transaction goes on."""
    policy = Policy(lock_timeout=0.3, locks=None)
    async with sessions.begin() as session:
        # With "_" there, the calls for many wait for the rival, and for no other call.
        session.add_all([Tag(name="b"), Tag(name="_"), Author(name="_")])

    async def give_up(verb: Verb, name: str) -> None:
        async with sessions() as session:
            session.add(Review(stars=5))  # No index is locked for it.
            await session.flush()
            with pytest.raises(RivalTimeoutError):
                async with asyncio.timeout(20):
                    await verb(session, name, policy, colour="blue")
            assert await session.scalar(IN_SECONDS) == 50
            await session.commit()

    work = [*holding("a"), update(Tag).where(Tag.name == "b").values(colour="red")]
    async with open_rival(engine, *work):
        waits = [(verb, "a") for verb in INSERTING] + [(verb, "b") for verb in LOCKING]
        await asyncio.gather(*(give_up(*each) for each in waits))
    async with sessions() as session:
        assert await count(session, Review) == len(waits)


@pytest.mark.heavy
async def test_innodb_that_rolls_back_on_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the server ends the whole transaction, COMMIT raises: nothing is lost.

    Fails without `has_ended_by_timeout` in `reason_of_end`.
    """
    settings = [*innodb.MARIADB, "--innodb-rollback-on-timeout"]
    monkeypatch.setattr(innodb, "MARIADB", settings)
    with innodb.mariadb() as where, innodb.tables(where):
        engine = create_async_engine(f"mysql+asyncmy://{where}/goc_test")
        async with open_rival(engine, insert(Tag).values(name="a")):
            for limit, verb in itertools.product((0.3, None), (get, get_many)):
                async with AsyncSession(engine) as session:
                    await session.execute(text("SET innodb_lock_wait_timeout = 1"))
                    session.add(Tag(name="mine"))
                    with pytest.raises(DBAPIError) as raised:
                        await verb(session, "a", Policy(lock_timeout=limit))
                    assert asks_to_run_again(raised.value)
                    assert "the whole transaction is gone" in raised.value.__notes__[-1]
                    with pytest.raises(PendingRollbackError):
                        await session.commit()
        await engine.dispose()
