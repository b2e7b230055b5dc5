"""MariaDB and MySQL: snapshots that hide rivals, gap locks, deadlocks that end all."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from backends import (
    MARIADB,
    MARIADB_11,
    MYSQL_9,
    Sessions,
    at_each_level,
    by_savepoint,
    tables_of,
)
from models import Animal, Author, Book, Cat, Employee, Person, Region, Tag
from rivals import after_rival, rival
from rows import count
from sqlalchemy import Engine, event, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from async_goc import (
    Event,
    Outcome,
    Policy,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    run_in_transaction,
    update_or_create,
)
from async_goc._databases import asks_to_run_again
from async_goc.exceptions import SnapshotConflictError


@pytest.fixture(autouse=True)
def no_remains(url: str, backend: str, request: pytest.FixtureRequest) -> None:
    """Let no deleted row be there: an INSERT of its key locks the gap beside it."""
    assert url
    tables: Engine = request.getfixturevalue(tables_of(backend))
    with tables.begin() as connection:
        connection.exec_driver_sql("TRUNCATE TABLE tag")


on_each_driver = pytest.mark.parametrize(
    "backend", [*MARIADB[:2], *MYSQL_9], indirect=True
)
on_one_driver = pytest.mark.parametrize(
    "backend", [MARIADB[0], *MYSQL_9[:1]], indirect=True
)


async def take_snapshot(session: AsyncSession) -> None:
    """Write something, and read something: there is a write to lose, and a snapshot."""
    session.add(Tag(name="mine"))
    await session.flush()
    await session.scalar(select(Animal.id))


@on_each_driver
@at_each_level
async def test_lost_race(engine: AsyncEngine, sessions: Sessions) -> None:
    """A rival's row that is newer than the snapshot is returned, and read as it is.

    Fails without `has_locking_reads` in `read_hidden`.
    """
    events: list[Event] = []
    async with sessions.begin() as session:
        await take_snapshot(session)
        await rival(engine, Tag(name="red", colour="f00"))()
        tag, created = await get_or_create(
            session, Tag, name="red", policy=Policy(observer=events.append)
        )
        assert (tag.colour, created) == ("f00", False)
    async with sessions() as session:
        assert await count(session, Tag) == 2


@on_one_driver
@pytest.mark.parametrize("isolation_level", ["READ COMMITTED"])
@pytest.mark.parametrize("verb", [get_or_create, get_or_create_many])
async def test_losers_change_the_row(
    engine: AsyncEngine, sessions: Sessions, verb: Any
) -> None:
    """Two that have lost to one rival, and then change its row, do not deadlock.

    Fails without `is_hidden` in `read_hidden`.
    """

    async def lose(session: AsyncSession, defaults: Any) -> Any:
        how: Any = {"defaults": defaults, "policy": Policy(locks=None)}
        if verb is get_or_create_many:
            return (await verb(session, Tag, ["red"], key="name", **how))[0]
        return await verb(session, Tag, name="red", **how)

    async def change(session: AsyncSession, tag: Tag, colour: str) -> None:
        tag.colour = colour
        await session.commit()

    async with sessions() as one, sessions() as two:
        ones: list[Any] = []

        async def both() -> dict[str, Any]:
            ones.extend(await lose(one, after_rival(engine, Tag(name="red"))))
            return {}

        twos = await lose(two, both)
        assert (ones[1], twos[1]) == (False, False)
        await asyncio.gather(change(one, ones[0], "f00"), change(two, twos[0], "e00"))


@on_one_driver
@by_savepoint
async def test_lost_race_of_a_subclass(engine: AsyncEngine, sessions: Sessions) -> None:
    """What only the rival's class has is newer than the snapshot, too.

    Fails without `read_rivals` in `complete_found`.
    """
    async with sessions.begin() as session:
        await take_snapshot(session)
        await rival(engine, Employee(name="Ann", badge=7))()
        person, created = await get_or_create(session, Person, name="Ann")
        assert isinstance(person, Employee)
        assert (person.badge, created) == (7, False)


@on_one_driver
@at_each_level
async def test_lost_race_of_an_update(engine: AsyncEngine, sessions: Sessions) -> None:
    """The rival's row is locked and changed, and what it had is seen."""
    async with sessions.begin() as session:
        await take_snapshot(session)
        await rival(engine, Tag(name="red", colour="f00"))()
        tag, created = await update_or_create(
            session, Tag, name="red", defaults={"slug": "r"}
        )
        assert (tag.colour, tag.slug, created) == ("f00", "r", False)


@on_one_driver
async def test_missing_rows_are_not_locked(sessions: Sessions) -> None:
    """Two transactions that update what is not there do not lock each other out.

    Fails without `facts_of` in `Lookup`: each INSERT waits for the other's gap.
    """
    async with sessions() as one, sessions() as two:
        both = asyncio.Barrier(2)

        async def values() -> dict[str, str]:
            await both.wait()
            return {"colour": "f00"}

        await asyncio.gather(
            update_or_create(one, Tag, name="red", defaults=values),
            update_or_create(two, Tag, name="rose", defaults=values),
        )
        await one.commit()
        await two.commit()


async def deadlock(
    session: AsyncSession, other: AsyncSession, call: Callable[[], Awaitable[object]]
) -> BaseException:
    """Let *call*, which inserts "y", deadlock, and be the one that is rolled back."""
    await take_snapshot(session)
    # The one that has written least is rolled back.
    other.add_all([Tag(name=f"tag {number}") for number in range(50)])
    other.add(Tag(name="y"))
    await other.flush()
    session.add(Tag(name="x"))
    await session.flush()

    async def cross() -> None:
        other.add(Tag(name="x"))
        await other.flush()

    results = await asyncio.gather(cross(), call(), return_exceptions=True)
    assert results[0] is None
    error = results[1]
    assert isinstance(error, BaseException)
    return error


@on_each_driver
@pytest.mark.parametrize("verb", [get_or_create, update_or_create, get_or_create_many])
async def test_deadlock(sessions: Sessions, verb: Any) -> None:
    """A deadlock ends the whole transaction: the call says so, and COMMIT raises.

    Fails without `give_up` in `Call`: COMMIT succeeds, and the writes are gone.
    Fails without `end_of_transaction` in `reason_of_end`: a SAVEPOINT is gone, it says.
    """
    async with sessions() as session, sessions() as other:

        async def call() -> object:
            policy = Policy(locks=None)
            if verb is get_or_create_many:
                return await verb(session, Tag, ["y"], key="name", policy=policy)
            return await verb(session, Tag, name="y", policy=policy)

        error: Any = await deadlock(session, other, call)
        assert isinstance(error, OperationalError)
        assert error.orig is not None
        assert error.orig.args[0] == 1213
        assert any("the whole transaction is gone" in n for n in error.__notes__)
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        await other.rollback()
        assert await count(session, Tag) == 0


@on_one_driver
@by_savepoint
async def test_deadlock_of_a_nested_call(sessions: Sessions) -> None:
    """A call inside another one gives up the connection, and that is said once."""
    policy = Policy(locks=None)
    async with sessions() as session, sessions() as other:

        async def make(**values: Any) -> Tag:
            await get_or_create(session, Tag, name="y", policy=policy)
            return Tag(**values)

        async def call() -> object:
            return await get_or_create(
                session, Tag, name="outer", factory=make, policy=policy
            )

        error = await deadlock(session, other, call)
        assert isinstance(error, OperationalError)
        notes = [note for note in error.__notes__ if "is gone" in note]
        assert len(notes) == 1
        for each in (session, other):
            await each.rollback()


@on_one_driver
@by_savepoint
@pytest.mark.parametrize(
    ("is_raised", "kind", "note"),
    [
        (True, LookupError, "the whole transaction is gone"),
        (False, OperationalError, "the transaction ended"),
    ],
)
async def test_deadlock_that_a_factory_hides(
    sessions: Sessions, is_raised: bool, kind: type[Exception], note: str
) -> None:
    """Whatever a factory makes of its deadlock, nothing of the rest is committed.

    Fails without `_give_up` in `reason_of_end`.
    """
    async with sessions() as session, sessions() as other:

        async def factory(**values: Any) -> Tag:
            try:
                await session.execute(insert(Tag).values(name="y"))
            except OperationalError:
                if is_raised:
                    raise LookupError from None
            return Tag(**values)

        async def call() -> object:
            return await get_or_create(session, Tag, name="z", factory=factory)

        error = await deadlock(session, other, call)
        assert isinstance(error, kind)
        assert any(note in each for each in error.__notes__)
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        await other.rollback()
        assert await count(session, Tag) == 0


@pytest.mark.parametrize("backend", MARIADB[:1], indirect=True)
@by_savepoint
@pytest.mark.parametrize("isolation_level", ["SERIALIZABLE"])
async def test_deadlock_of_a_hit(engine: AsyncEngine, sessions: Sessions) -> None:
    """Nothing is committed of a transaction whose SELECT has met a deadlock.

    Fails without `give_up` in `look_plainly`.
    """
    await rival(engine, Tag(name="a"), Tag(name="b"))()
    async with sessions() as session:  # From now on, such a call is a plain one.
        await get_or_create(session, Tag, name="a")
    async with sessions() as one, sessions() as two:
        calls = {one: "b", two: "a"}
        for session, name in zip(calls, "ab", strict=True):
            change = update(Tag).where(Tag.name == name).values(colour="blue")
            await session.execute(change)
        asked = [get_or_create(session, Tag, name=calls[session]) for session in calls]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        [lost] = [s for s, e in zip(calls, ended, strict=True) if type(e) is not tuple]
        with pytest.raises(PendingRollbackError):
            await lost.commit()


@on_one_driver
@by_savepoint
async def test_deadlock_is_run_again(sessions: Sessions) -> None:
    """What a deadlock has ended is run again as a whole, and loses nothing."""
    attempts = 0
    async with sessions() as other:

        async def work(session: AsyncSession) -> None:
            nonlocal attempts
            attempts += 1
            policy = Policy(locks=None)

            async def call() -> object:
                return await get_or_create(session, Tag, name="y", policy=policy)

            if attempts == 1:
                error = await deadlock(session, other, call)
                await other.rollback()
                raise error
            await take_snapshot(session)
            await call()

        again = async_sessionmaker(sessions.kw["bind"])
        await run_in_transaction(again, work)
    async with sessions() as session:
        names = await session.scalars(select(Tag.name))
        assert (sorted(names), attempts) == (["mine", "y"], 2)


def be_strict(engine: AsyncEngine) -> None:
    """Refuse to lock what a snapshot does not show, as MariaDB does since 11.6."""

    def set_up(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
        cursor.close()

    event.listen(engine.sync_engine, "connect", set_up)


on_strict_snapshots = pytest.mark.parametrize(
    "backend", [MARIADB[0], *MARIADB_11[:1]], indirect=True
)


@on_strict_snapshots
@pytest.mark.parametrize("verb", [get_or_create, get_or_create_many])
async def test_row_newer_than_a_strict_snapshot(
    engine: AsyncEngine, sessions: Sessions, verb: Any
) -> None:
    """Where MariaDB refuses to read what is newer, the whole transaction runs again.

    Fails without `is_changed_since_snapshot` in `read_rivals`.
    """
    be_strict(engine)
    attempts = 0

    async def work(session: AsyncSession) -> Any:
        nonlocal attempts
        attempts += 1
        await take_snapshot(session)
        if attempts == 1:
            await rival(engine, Tag(name="red", colour="f00"))()
        arguments: dict[str, Any] = {"name": "red"}
        if verb is get_or_create_many:
            [(tag, _)] = await verb(session, Tag, ["red"], key="name")
            return tag.colour
        tag, _ = await verb(session, Tag, **arguments)
        return tag.colour

    async with sessions() as session:
        with pytest.raises(SnapshotConflictError) as caught:
            await work(session)
    assert any("is gone" in note for note in caught.value.__notes__)
    assert await run_in_transaction(sessions, work) == "f00"
    assert attempts == 2


@on_strict_snapshots
@pytest.mark.parametrize("is_many", [False, True])
@pytest.mark.parametrize("is_parent", [False, True])
async def test_insert_that_meets_a_newer_row(
    engine: AsyncEngine, sessions: Sessions, *, is_many: bool, is_parent: bool
) -> None:
    """There an INSERT fails by itself: at its primary key, or at what it refers to.

    Fails without `_is_of_snapshot` in `find_rival`, and in `refuse_many`.
    """
    be_strict(engine)
    await rival(engine, Author(id=1, name="ann"))()
    async with sessions() as session:
        await take_snapshot(session)
        call: Any
        model: Any = Region
        values: dict[str, Any] = {"country": "no", "number": 7}
        if is_parent:
            model, values = Book, {"title": "x", "author_id": 1}
            async with engine.begin() as connection:
                await connection.execute(update(Author).values(book_count=1))
        else:
            await rival(engine, Region(**values))()
        if is_many:
            call = get_or_create_many(session, model, [values], key=[*values])
        else:
            call = get_or_create(session, model, **values)
        with pytest.raises(SnapshotConflictError) as caught:
            await call
        assert any("which row" in note for note in caught.value.__notes__)
        with pytest.raises(PendingRollbackError):
            await session.commit()


@on_one_driver
@pytest.mark.parametrize("isolation_level", ["SERIALIZABLE", "serializable"])
@by_savepoint
async def test_nothing_queues_with_locks_in_hand(sessions: Sessions) -> None:
    """At SERIALIZABLE a SELECT locks, and whoever has looked waits for no other call.

    Fails without `locks_by_reading` in `Turn`.
    """
    one_has_looked, two_has_looked = asyncio.Event(), asyncio.Event()
    policy = Policy(wait_timeout=None)
    async with sessions() as one, sessions() as two:
        await two.scalar(select(Animal.id))

        async def wait() -> dict[str, str]:
            one_has_looked.set()
            await two_has_looked.wait()
            return {}

        async def note() -> dict[str, str]:
            two_has_looked.set()
            return {}

        async def call() -> tuple[Tag, bool]:
            await one_has_looked.wait()
            return await get_or_create(
                two, Tag, name="red", defaults=note, policy=policy
            )

        results = await asyncio.gather(
            get_or_create(one, Tag, name="red", defaults=wait, policy=policy),
            call(),
            return_exceptions=True,
        )
        # Both have locked the gap. The database ends one of them at once.
        [error] = [each for each in results if isinstance(each, OperationalError)]
        assert asks_to_run_again(error)
        [(_, created)] = [each for each in results if isinstance(each, tuple)]
        assert created
        for session in (one, two):
            await session.rollback()


@on_one_driver
@pytest.mark.parametrize("isolation_level", ["AUTOCOMMIT"])
async def test_autocommit(session: AsyncSession) -> None:
    """Without a transaction, ROLLBACK TO fails: the call is refused before any SQL."""
    with pytest.raises(ValueError, match="AUTOCOMMIT"):
        await get_or_create(session, Tag, name="red")


@on_each_driver
@by_savepoint
async def test_many_by_the_collation(engine: AsyncEngine, sessions: Sessions) -> None:
    """Keys that the column's collation takes for equal are one row.

    Fails without `ignores_case` in `_is_plain`, and without `above` in `select_list`.
    """
    await rival(engine, Tag(name="Rosé"))()
    names = ["ann", "ANN", "ROSE", "bob", "bob"]
    async with sessions.begin() as session:
        found = await get_or_create_many(session, Tag, names, key="name")
        found_names = [tag.name for tag, _ in found]
        keys = await get_or_create_ids(session, Tag, names, key="name")
        assert keys == [(tag.id, False) for tag, _ in found]
    assert found_names == ["ann", "ann", "Rosé", "bob", "bob"]
    assert [created for _, created in found] == [True, False, False, True, False]


@on_one_driver
@at_each_level
@by_savepoint
async def test_many_after_a_lost_race(engine: AsyncEngine, sessions: Sessions) -> None:
    """A rival's row among many is found, whatever the snapshot, and the rest made."""
    async with sessions.begin() as session:
        await take_snapshot(session)
        await rival(engine, Tag(name="b", colour="f00"))()
        found = await get_or_create_many(session, Tag, ["c", "b", "a"], key="name")
        told = [(tag.name, created) for tag, created in found]
        ids = [tag.id for tag, _ in found]
        keys = await get_or_create_ids(session, Tag, ["b", "d", "a"], key="name")
    assert told == [("c", True), ("b", False), ("a", True)]
    assert [created for _, created in keys] == [False, True, False]
    assert [keys[0][0], keys[2][0]] == ids[1:]


@on_one_driver
@by_savepoint
async def test_many_by_several_columns(sessions: Sessions) -> None:
    """A list of keys has the types of their columns: a date is compared as one."""
    noon, night = datetime(2026, 1, 1, 12), datetime(2026, 1, 2)  # noqa: DTZ001
    rows = [{"name": "a", "made_at": noon}, {"name": "b", "made_at": night}]
    async with sessions.begin() as session:
        found = await get_or_create_many(session, Tag, rows, key=["name", "made_at"])
    assert [created for _, created in found] == [True, True]
    async with sessions.begin() as session:
        rows[1]["name"] = "B"
        found = await get_or_create_many(session, Tag, rows, key=["name", "made_at"])
        told = [(tag.name, created) for tag, created in found]
    assert told == [("a", False), ("b", False)]


@on_each_driver
async def test_conflict_on_another_constraint(
    engine: AsyncEngine, session: AsyncSession, strategy: str
) -> None:
    """A conflict that is not about the lookup is the caller's, and undoes nothing."""
    await rival(engine, Tag(name="blue", slug="b"))()
    session.add(Tag(name="mine"))
    with pytest.raises(IntegrityError) as caught:
        await get_or_create(session, Tag, name="red", defaults={"slug": "b"})
    assert "another row holds these values" in caught.value.__notes__[0]
    await session.commit()
    assert await count(session, Tag) == 2
    assert strategy in {"savepoint", "native"}


@on_each_driver
async def test_round_trips(
    session: AsyncSession, statements: list[str], strategy: str
) -> None:
    """A native INSERT has no SAVEPOINT; a hit is one SELECT, and a locked one two."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    await get_or_create(session, Tag, name="red", policy=policy)
    # MySQL returns nothing from an INSERT; what it has made up is read.
    has_returning = session.get_bind().dialect.insert_returning
    is_native = has_returning and strategy == "native"
    guarded = ["SAVEPOINT", "INSERT", "RELEASE", *([] if has_returning else ["SELECT"])]
    assert statements == ["SELECT", *(["INSERT"] if is_native else guarded)]
    assert events[-1].strategy == ("native" if is_native else "savepoint")
    # Whatever the URL calls it.
    assert events[-1].database == ("mariadb" if has_returning else "mysql")
    statements.clear()
    await get_or_create(session, Tag, name="red")
    session.expunge_all()
    await update_or_create(session, Tag, name="red")
    assert statements == ["SELECT"] * 3


@on_one_driver
@by_savepoint
async def test_lost_race_is_told(engine: AsyncEngine, session: AsyncSession) -> None:
    """The event of a lost race, and a class with a table of its own."""
    events: list[Event] = []
    made = after_rival(engine, Cat(name="Tom"))
    policy = Policy(observer=events.append)
    cat, created = await get_or_create(
        session, Animal, name="Tom", defaults=made, policy=policy
    )
    assert isinstance(cat, Cat)
    assert (cat.lives, created, events[-1].outcome) == (9, False, Outcome.LOST_RACE)


@on_each_driver
@by_savepoint
async def test_statements_for_many(
    session: AsyncSession, statements: list[str]
) -> None:
    """The number of statements does not depend on the number of rows, on MariaDB."""
    names = [f"tag {number}" for number in range(300)]
    await get_or_create_many(session, Tag, names, key="name")
    # One puts the keys in the order of their collation, and one looks for them.
    assert statements[:4] == ["SELECT", "SELECT", "SAVEPOINT", "SAVEPOINT"]
    if session.get_bind().dialect.insert_returning:
        assert statements[4:] == ["INSERT", "RELEASE", "RELEASE"]
    statements.clear()
    found = await get_or_create_many(session, Tag, names, key="name")
    assert [tag.name for tag, _ in found] == names
    assert statements == ["SELECT", "SELECT"]
