"""A session that reads from a replica, which lags: the results are as without one."""

import shutil
from asyncio import Event, Task, create_task
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from backends import POSTGRES, Sessions
from models import Author, Employee, Page, Person, Tag
from rivals import after_rival, rival
from rows import count
from sqlalchemy import Delete, Insert, Update, event, make_url, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, selectinload

from async_goc import (
    Outcome,
    Policy,
    Stats,
    get_or_create,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

pytestmark = pytest.mark.one_driver

READ_ONLY = "default_transaction_read_only"
OPTIONS: dict[str, Any] = {
    "asyncpg": {"server_settings": {"search_path": "replica", READ_ONLY: "on"}},
    "psycopg": {"options": f"-c search_path=replica -c {READ_ONLY}=on"},
}


@pytest.fixture
async def replica(
    engine: AsyncEngine, url: str, tmp_path: Path
) -> AsyncIterator[AsyncEngine]:
    """A database that can only be read, and has what was put into it alone."""
    if engine.dialect.name == "sqlite":
        path = shutil.copy(make_url(url).database or "", tmp_path / "replica.db")
        replica = create_async_engine(
            f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true"
        )
    else:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE SCHEMA replica"))
            for model in (Tag, Page, Author, Person, Employee):
                name = model.__tablename__
                like = f"CREATE TABLE replica.{name} (LIKE {name} INCLUDING ALL)"
                await connection.execute(text(like))
        options = OPTIONS[engine.dialect.driver]
        replica = create_async_engine(url, connect_args=options)
    yield replica
    await replica.dispose()
    if engine.dialect.name != "sqlite":
        async with engine.begin() as connection:
            await connection.execute(text("DROP SCHEMA replica CASCADE"))


@pytest.fixture(params=["of the docs", "with INSERT", "keywords", "by flush alone"])
def sessions(
    engine: AsyncEngine, replica: AsyncEngine, request: pytest.FixtureRequest
) -> Sessions:
    """Sessions that are routed as SQLAlchemy's documentation does it."""
    writer, reader = engine.sync_engine, replica.sync_engine

    class OfTheDocs(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None) -> Any:  # type: ignore[override]
            assert mapper is None or mapper.class_
            is_write = self._flushing or isinstance(clause, Update | Delete)
            return writer if is_write else reader

    class WithInsert(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None, **_: Any) -> Any:
            assert mapper is None or mapper.class_
            is_write = isinstance(clause, Update | Delete | Insert)
            return writer if self._flushing or is_write else reader

    class WithKeywords(Session):
        def get_bind(self, mapper: Any = None, **options: Any) -> Any:
            assert mapper is None or mapper.class_
            clause = options.get("clause")
            if self._flushing or (clause is not None and not clause.is_select):
                return writer
            return reader

    class ByFlushAlone(Session):
        def get_bind(self, mapper: Any = None, **_: Any) -> Any:
            assert mapper is None or mapper.class_
            return writer if self._flushing else reader

    kinds = {
        "of the docs": OfTheDocs,
        "with INSERT": WithInsert,
        "keywords": WithKeywords,
        "by flush alone": ByFlushAlone,
    }
    kind = kinds[request.param]
    return async_sessionmaker(sync_session_class=kind, expire_on_commit=False)


def asked(engine: AsyncEngine) -> list[str]:
    """The statements that this database gets from now on."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        if not sql.startswith("BEGIN"):
            statements.append(sql)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    return statements


@pytest.fixture
def stats() -> Stats:
    return Stats()


async def test_row_that_both_have(
    engine: AsyncEngine, replica: AsyncEngine, sessions: Sessions, url: str
) -> None:
    """A hit is one statement, and the replica's."""
    await copied(engine, url, Tag(id=7, name="a"))
    writes, reads = asked(engine), asked(replica)
    async with sessions() as session:
        tag, created = await get_or_create(session, Tag, name="a")
        assert (tag.id, created) == (7, False)
        assert (len(writes), len(reads)) == (0, 1)
        assert "get_bind" not in vars(session.sync_session)


async def copied(engine: AsyncEngine, url: str, *rows: Any) -> None:
    """Put the rows into both databases."""
    if engine.dialect.name == "sqlite":
        path = Path(make_url(url).database or "").parent / "replica.db"
        other = create_async_engine(f"sqlite+aiosqlite:///{path}")
    else:
        schemas = {None: "replica"}
        other = engine.execution_options(schema_translate_map=schemas)
    for target in (engine, other):
        async with AsyncSession(target) as session, session.begin():
            for row in rows:
                await session.merge(row)
    if other.sync_engine.pool is not engine.sync_engine.pool:
        await other.dispose()


@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_row_that_the_replica_lacks(
    engine: AsyncEngine, sessions: Sessions, verb: Any, stats: Stats
) -> None:
    """It is found where it was written, and no defaults are evaluated for a new row.

    Fails without `use_writer` in `_look`.
    """
    await rival(engine, Page(name="a", views=1))()
    policy = Policy(observer=stats)
    called: list[str] = []
    defaults = {"views": lambda: called.append("views") or 5}
    async with sessions() as session:
        page, created = await verb(
            session, Page, name="a", defaults=defaults, policy=policy
        )
        is_update = verb is update_or_create
        assert (page.views, created) == (5 if is_update else 1, False)
        assert len(called) == is_update
        assert stats[Outcome.LOST_RACE] == 0
        await session.commit()
    async with AsyncSession(engine) as session:
        page, _ = await get_or_create(session, Page, name="a")
        assert page.views == (5 if is_update else 1)


@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_new_row(engine: AsyncEngine, sessions: Sessions, verb: Any) -> None:
    """A created row is complete, and found again in the same transaction."""
    async with sessions() as session:
        options = [selectinload(Author.books)]
        author, created = await verb(session, Author, name="Ann", options=options)
        assert (author.books, author.name, created) == ([], "Ann", True)
        again, created = await verb(session, Author, name="Ann")
        assert (again is author, created) == (True, False)
        session.add(Author(name="Bob"))
        _, created = await verb(session, Author, name="Bob")
        assert not created
        await session.commit()
    async with AsyncSession(engine) as session:
        assert await count(session, Author) == 2


@pytest.mark.parametrize("backend", POSTGRES, indirect=True)
@pytest.mark.parametrize("verb", [get_or_create, update_or_create])
async def test_lost_race(
    engine: AsyncEngine, sessions: Sessions, verb: Any, stats: Stats
) -> None:
    """The rival's row is read where it was written, and so are questions about it."""
    policy = Policy(observer=stats)
    async with sessions() as session:
        defaults = after_rival(engine, Page(name="a", views=1), {"views": 2})
        page, created = await verb(
            session, Page, name="a", defaults=defaults, policy=policy
        )
        expected = 1 if verb is get_or_create else 2
        assert (page.views, created) == (expected, False)
        assert stats[Outcome.LOST_RACE] == 1


async def test_locked_row(
    engine: AsyncEngine, replica: AsyncEngine, sessions: Sessions, url: str
) -> None:
    """A row that is locked, and a loaded one that is read again, is the writer's."""
    await copied(engine, url, Tag(id=7, name="a", colour="red"))
    async with sessions() as session:
        tag, _ = await get_or_create(session, Tag, name="a")
        async with AsyncSession(engine) as other, other.begin():
            (await other.get_one(Tag, 7)).colour = "blue"
        await session.commit()
        reads = asked(replica)
        for how in (True, {"read": True}):
            found, created = await get_or_create(
                session, Tag, name="a", with_for_update=how
            )
            assert (found is tag, tag.colour, created) == (True, "blue", False)
        assert reads == []


async def test_columns_of_a_subclass(
    engine: AsyncEngine, replica: AsyncEngine, sessions: Sessions, url: str
) -> None:
    """What the SELECT has not loaded is read where rows are written.

    Fails without `use_writer` in `find_or_create`.
    """
    await copied(engine, url, Employee(id=7, name="Ann", badge=1))
    reads = asked(replica)
    async with sessions() as session:
        ann, created = await get_or_create(session, Person, name="Ann")
        assert (type(ann), ann.badge, created) == (Employee, 1, False)
        assert len(reads) == 1


async def test_nested_calls(engine: AsyncEngine, sessions: Sessions) -> None:
    """A call inside a call leaves the session as the outer one needs it."""
    await rival(engine, Tag(name="b", colour="red"))()
    async with sessions() as session:

        async def factory(**values: Any) -> Page:
            tag, created = await get_or_create(session, Tag, name="b")
            assert (tag.colour, created) == ("red", False)
            return Page(**values, text=tag.colour)

        page, created = await get_or_create(session, Page, name="a", factory=factory)
        assert (page.text, created) == ("red", True)
        assert "get_bind" not in vars(session.sync_session)
        await session.commit()


async def test_nested_call_that_outlives_the_outer_one(
    replica: AsyncEngine, sessions: Sessions
) -> None:
    """It goes on where rows are written; the session chooses again when both are over.

    Fails without `innermost` in `leave_session`.
    """
    begun, may_end = Event(), Event()
    tasks: list[Task[tuple[Author, bool]]] = []

    async def slow() -> dict[str, Any]:
        begun.set()
        await may_end.wait()
        return {}

    async with sessions() as session:

        async def begin() -> dict[str, Any]:
            options = [selectinload(Author.books)]
            nested = get_or_create(
                session, Author, name="Bob", defaults=slow, options=options
            )
            tasks.append(create_task(nested))
            await begun.wait()
            return {}

        _, created = await get_or_create(session, Page, name="a", defaults=begin)
        assert created
        reads = asked(replica)
        may_end.set()
        bob, created = await tasks[0]
        assert (bob.books, created, reads) == ([], True, [])
        assert "get_bind" not in vars(session.sync_session)


async def test_many_rows(engine: AsyncEngine, sessions: Sessions) -> None:
    """What the replica lacks is found; only what both lack is created.

    Fails without `use_writer` in `Bulk._look_first`, and
    without `use_writer` in `Bulk.update`.
    """
    async with AsyncSession(engine) as session, session.begin():
        session.add(Tag(name="a"))
    async with sessions() as session, session.begin():
        result = await get_or_create_many(session, Tag, ["a", "b"], key="name")
        assert [created for _, created in result] == [False, True]
    rows = [{"name": name, "colour": "red"} for name in "abc"]
    async with sessions() as session, session.begin():
        result = await update_or_create_many(session, Tag, rows, key="name")
        assert [created for _, created in result] == [False, False, True]
    async with AsyncSession(engine) as session:
        assert set(await session.scalars(select(Tag.colour))) == {"red"}


async def test_session_that_cannot_write(engine: AsyncEngine) -> None:
    """Its error passes through, and it reads on as before."""

    class ReadOnly(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None, **_: Any) -> Any:
            assert mapper is not None
            if isinstance(clause, Update):
                raise PermissionError
            return engine.sync_engine

    async with AsyncSession(sync_session_class=ReadOnly) as session:
        await session.execute(select(Tag))
        with pytest.raises(PermissionError):
            await get_or_create(session, Tag, name="a")
        assert (await session.scalars(select(Tag))).all() == []
