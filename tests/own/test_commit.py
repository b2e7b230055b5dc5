"""What becomes of a transaction whose connection ends, or whose task is cancelled."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from typing import Any

import anyio
import pytest
from backends import Sessions, on_postgres
from cutting import Network, through_network
from models import Tag
from sqlalchemy import delete, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from steps import Steps, Way, cancel, cancel_late
from waiting import until

from async_goc import GetOrCreator, exceptions, run_in_transaction

Unknown = exceptions.OutcomeUnknownError


@pytest.fixture
def sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine)


@pytest.fixture
async def cut(url: str) -> AsyncIterator[tuple[Network, Sessions]]:
    """Sessions whose connections pass through a network that may break."""
    async with through_network(url) as (network, engine):
        yield network, async_sessionmaker(engine)


async def names(engine: AsyncEngine) -> list[str]:
    async with AsyncSession(engine) as session:
        return sorted(await session.scalars(select(Tag.name)))


def checked_out(engine: AsyncEngine) -> int:
    pool: Any = engine.pool
    count: int = pool.checkedout()
    return count


class Add:
    """Work that adds one tag for each time that it is run."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, session: AsyncSession) -> int:
        self.runs += 1
        session.add(Tag(name=f"run {self.runs}"))
        await session.flush()
        return self.runs


@on_postgres
async def test_killed_before_the_commit(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """Whatever a connection did that ended before the COMMIT has not happened.

    Fails without `has_lost_connection` in `_is_passing`.
    """
    add = Add()

    async def work(session: AsyncSession) -> int:
        runs = await add(session)
        if runs == 1:
            process = await session.scalar(text("SELECT pg_backend_pid()"))
            async with engine.connect() as rival:
                await rival.execute(
                    text("SELECT pg_terminate_backend(:process, 5000)"),
                    {"process": process},
                )
            await session.execute(select(1))
        return runs

    assert await run_in_transaction(sessions, work) == 2
    assert await names(engine) == ["run 2"]
    assert checked_out(engine) == 0


@on_postgres
@pytest.mark.parametrize("is_late", [False, True], ids=["lost", "answer lost"])
@pytest.mark.parametrize("is_idempotent", [False, True])
async def test_cut_at_the_commit(
    engine: AsyncEngine,
    cut: tuple[Network, Sessions],
    is_late: bool,
    is_idempotent: bool,
) -> None:
    """Where nobody knows if a COMMIT took effect, nothing is run again unasked.

    Fails without `is_unknown` in `Attempt.may_be_repeated`.
    """
    network, sessions = cut
    network.cuts, network.is_late = 1, is_late
    add = Add()
    call = run_in_transaction(sessions, add, is_idempotent=is_idempotent)
    there = ["run 1"] if is_late else []
    if is_idempotent:
        assert await call == 2
        there.append("run 2")
    else:
        with pytest.raises(Unknown, match="COMMIT was sent, and the conn") as raised:
            await call
        assert (raised.value.attempts, raised.value.is_partial) == (1, False)
        assert raised.value.__cause__ is not None
    await until(lambda: checked_out(sessions.kw["bind"]) == 0)
    assert await names(engine) == there
    assert add.runs == 1 + is_idempotent


@on_postgres
async def test_a_hit_cut_at_the_commit(
    engine: AsyncEngine, cut: tuple[Network, Sessions]
) -> None:
    """A creator's call that has written nothing is run again, one row or many.

    Fails without `_is_harmless` in `Attempt.may_be_repeated`, and without `are_hits` in
    `BulkVerbs.get_or_create_many`.
    """
    network, sessions = cut
    async with AsyncSession(engine) as session, session.begin():
        session.add(Tag(name="x"))
    creator = GetOrCreator(sessions)
    network.cuts = 1
    assert not (await creator.get_or_create(Tag, Tag.name == "x"))[1]
    network.cuts = 1
    [(tag, created)] = await creator.get_or_create_many(Tag, ["x"], key="name")
    assert (tag.name, created, network.cuts) == ("x", False, 0)
    network.cuts = 1
    again = await creator.get_or_create_ids(Tag, ["x"], key="name")
    assert (again, network.cuts) == ([(tag.id, False)], 0)
    network.cuts = 1
    with pytest.raises(Unknown):
        await creator.get_or_create(Tag, Tag.name == "y")


@on_postgres
async def test_cut_at_a_listener_before_the_commit(
    engine: AsyncEngine, cut: tuple[Network, Sessions]
) -> None:
    """What fails within commit(), but before the COMMIT, has not happened.

    Fails without `_note_sent` in `Commits._watch`: what is sent would not be known.
    """
    network, sessions = cut
    add = Add()

    async def work(session: AsyncSession) -> int:
        runs = await add(session)
        if runs == 1:
            network.word, network.cuts = b"COMMITTED", 1

        @event.listens_for(session.sync_session, "before_commit")
        def look(own: Any) -> None:
            own.execute(text("SELECT 'COMMITTED'"))

        return runs

    assert await run_in_transaction(sessions, work) == 2
    assert await names(engine) == ["run 2"]


@on_postgres
async def test_deferred_constraint(engine: AsyncEngine, sessions: Sessions) -> None:
    """A constraint that is checked at the COMMIT is an error like any other."""
    async with engine.begin() as connection:
        await connection.execute(text("DROP TABLE IF EXISTS late"))
        unique = "name text UNIQUE DEFERRABLE INITIALLY DEFERRED"
        await connection.execute(text(f"CREATE TABLE late ({unique})"))
    runs = 0

    async def work(session: AsyncSession) -> None:
        nonlocal runs
        runs += 1
        await session.execute(text("INSERT INTO late VALUES ('x'), ('x')"))

    with pytest.raises(IntegrityError) as raised:
        await run_in_transaction(sessions, work)
    assert not hasattr(raised.value, "__notes__")
    assert runs == 1
    assert checked_out(engine) == 0


@on_postgres
@pytest.mark.parametrize("committed", [0, 1])
@pytest.mark.parametrize("is_idempotent", [False, True])
async def test_two_connections(
    engine: AsyncEngine, url: str, committed: int, is_idempotent: bool
) -> None:
    """Where one connection has committed, and another not, that is said.

    If the first COMMIT is refused, nothing is committed, and all is run again.
    Fails without `note_answers` in `Attempt._commit`.
    """
    other = create_async_engine(url)
    commits = 0

    def refuse(connection: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == committed + 1:
            connection.exec_driver_sql(
                "CREATE TEMP TABLE refused (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
            )
            connection.exec_driver_sql(
                "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$BEGIN RAISE 'no' USING ERRCODE = '40001'; END$$"
            )
            connection.exec_driver_sql(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON refused DEFERRABLE "
                "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
            )
            connection.exec_driver_sql("INSERT INTO refused VALUES (1)")

    for each in (engine, other):
        event.listen(each.sync_engine, "commit", refuse)
    runs = 0

    async def work(session: AsyncSession) -> None:
        nonlocal runs
        runs += 1
        for number, each in enumerate((engine, other)):
            bind: Any = {"bind": each.sync_engine}
            name = {"name": f"run {runs} {number}"}
            insert = text("INSERT INTO tag (name) VALUES (:name)")
            await session.execute(insert, name, bind_arguments=bind)

    call = run_in_transaction(
        async_sessionmaker(engine), work, is_idempotent=is_idempotent
    )
    if committed and not is_idempotent:
        with pytest.raises(Unknown, match="succeeded on one connection") as raised:
            await call
        assert raised.value.is_partial
        assert runs == 1
    else:
        await call
        assert runs == 2
    event.remove(engine.sync_engine, "commit", refuse)
    there = await names(engine)
    assert len(there) == committed + 2 * (runs - 1)
    await other.dispose()


async def cancel_scope(work: Coroutine[Any, Any, object], k: int) -> bool:
    """Cancel the scope around *work* at its k-th suspension; say if it got so far.

    Work that shields its last steps does not hear of it there.
    """
    with anyio.CancelScope() as scope:
        steps = Steps(work, scope.cancel, k)
        await steps
    return steps.count >= k


WAYS: list[Way] = [cancel, cancel_late, cancel_scope]


@pytest.mark.usefixtures("cheap_collections")
@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_anywhere(
    engine: AsyncEngine, sessions: Sessions, way: Way
) -> None:
    """Cancelled at any step, a call is committed or not, and holds no connection.

    Where it may be committed, a note on the cancellation says so.
    """
    seen: set[str] = set()
    await run_in_transaction(sessions, Add())
    for place in count(1):
        async with engine.begin() as connection:
            await connection.execute(delete(Tag))
        ending = Ending()
        has_got_there = await way(ending.of(run_in_transaction(sessions, Add())), place)
        gc.collect()
        await until(lambda: checked_out(engine) == 0)
        is_there = await names(engine) == ["run 1"]
        if ending.is_result or "committed before" in ending.note:
            assert is_there
        elif not ending.note:
            assert not is_there
        seen.add(ending.note)
        if not has_got_there:
            break
    assert any("not known whether it took effect" in note for note in seen)


class Ending:
    """How a call ended."""

    def __init__(self) -> None:
        self.is_result = False
        self.note = ""

    async def of(self, call: Coroutine[Any, Any, object]) -> None:
        try:
            await call
        except asyncio.CancelledError as error:
            self.note = "".join(getattr(error, "__notes__", ()))
            raise
        self.is_result = True


@on_postgres
async def test_closing_in_a_cancelled_scope(cut: tuple[Network, Sessions]) -> None:
    """While a cancelled call waits for the ROLLBACK, the CPU rests.

    Fails without `CancelScope` in `close`, as SQLAlchemy's own ``async with`` does.
    """
    network, sessions = cut
    network.slow = b"ROLLBACK"

    async def work(session: AsyncSession) -> None:
        await session.execute(select(1))
        scope.cancel()
        await anyio.sleep_forever()

    before = time.process_time()
    with anyio.CancelScope() as scope:
        await run_in_transaction(sessions, work)
    assert scope.cancelled_caught
    assert time.process_time() - before < network.delay / 2
    assert checked_out(sessions.kw["bind"]) == 0


@on_postgres
async def test_cancelled_again_while_closing(cut: tuple[Network, Sessions]) -> None:
    """Cancelled once more while it rolls back, a call still ends in order."""
    network, sessions = cut
    network.slow = b"ROLLBACK"
    is_working = asyncio.Event()

    async def work(session: AsyncSession) -> None:
        await session.execute(select(1))
        is_working.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run_in_transaction(sessions, work))
    await is_working.wait()
    for _ in range(3):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert checked_out(sessions.kw["bind"]) == 0


@on_postgres
async def test_rollback_that_fails(
    engine: AsyncEngine, cut: tuple[Network, Sessions]
) -> None:
    """An error of the ROLLBACK does not hide the work's own.

    Fails without `close` in `_end`.
    """
    network, sessions = cut

    async def work(session: AsyncSession) -> None:
        await Add()(session)
        network.word, network.cuts = b"ROLLBACK", 1
        msg = "mine"
        raise LookupError(msg)

    with pytest.raises(LookupError, match="mine"):
        await run_in_transaction(sessions, work)
    assert checked_out(sessions.kw["bind"]) == 0
    assert await names(engine) == []


@on_postgres
@pytest.mark.filterwarnings("ignore:The garbage collector is trying")
async def test_closed_by_the_garbage_collector(
    engine: AsyncEngine, sessions: Sessions
) -> None:
    """A call that is closed, not cancelled, ends without a word.

    Fails without `GeneratorExit` in `Attempt.run`.
    """

    async def work(_: AsyncSession) -> None:
        await asyncio.sleep(0)

    call = run_in_transaction(sessions, work)
    call.send(None)
    call.close()
    assert checked_out(engine) == 0
