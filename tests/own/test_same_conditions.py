"""Whoever listens, and however engine and sessions are, a call does the same."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from backends import on_postgres, on_sqlite
from models import Author, Book, Note, Review, Tag
from sqlalchemy import event, inspect
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, selectinload, with_loader_criteria
from ways import BATCH, TWICE, Case, Ways, either

from async_goc import GetOrCreator, get_or_create
from async_goc.exceptions import MissingConstraintWarning

pytestmark = pytest.mark.heavy

ASYNCPG = pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
TAG = either(lambda c: c.get_or_create(Tag, name="red", defaults={"colour": "f00"}))


@contextmanager
def listening(target: Any, name: str, listener: Any) -> Iterator[None]:
    event.listen(target, name, listener)
    try:
        yield
    finally:
        event.remove(target, name, listener)


@ASYNCPG
@pytest.mark.parametrize(
    ("target", "name"),
    [
        *((Tag, name) for name in ("init", "load", "refresh")),
        *((Tag, name) for name in ("before_insert", "after_insert")),
        (Tag.colour, "set"),
        *((Session, name) for name in ("before_flush", "after_flush")),
        *((Session, name) for name in ("pending_to_persistent", "before_commit")),
        *((Session, name) for name in ("loaded_as_persistent", "transient_to_pending")),
        *((Session, name) for name in ("after_begin", "do_orm_execute")),
    ],
)
async def test_listeners(ways: Ways, target: Any, name: str) -> None:
    """A listener hears as much of a call as in a session."""
    with listening(target, name, lambda *_, **__: ways.heard.append(name)):
        await ways.compare(TAG)
        await ways.compare(TAG._replace(rows=lambda: [Tag(name="red", colour="old")]))


def old() -> list[Any]:
    return [Tag(name="red", colour="old"), Author(id=-1, name="Ann")]


@ASYNCPG
@pytest.mark.parametrize("how", ["criteria", "options"])
async def test_listeners_that_change_the_statement(ways: Ways, how: str) -> None:
    """What a listener adds to each SELECT is in those of the calls, too."""

    def add(state: Any) -> None:
        if how == "criteria":
            hidden = with_loader_criteria(Tag, Tag.colour != "old")
            state.statement = state.statement.options(hidden)
        elif state.bind_mapper is inspect(Book):
            state.statement = state.statement.options(selectinload(Book.tags))

    with listening(Session, "do_orm_execute", add):
        await ways.compare(TAG._replace(rows=old))
        book = either(lambda c: c.get_or_create(Book, author_id=-1, title="a"), old)
        await ways.compare(book)


class Own(AsyncSession):
    """Has methods of its own."""

    async def commit(self) -> None:
        self.info["heard"].append("commit")
        await super().commit()


@ASYNCPG
@pytest.mark.parametrize(
    "options",
    [
        {"expire_on_commit": False},
        {"autoflush": False},
        {"execution_options": {"populate_existing": True}},
        {"twophase": False, "join_transaction_mode": "rollback_only"},
    ],
)
async def test_sessions(ways: Ways, options: dict[str, Any]) -> None:
    """However the sessions are made."""
    ways.options = options
    await ways.compare(TAG)


@ASYNCPG
async def test_sessions_of_another_class(engine: AsyncEngine) -> None:
    """A method of the class is called by a creator, too."""
    heard: list[str] = []
    sessions = async_sessionmaker(engine, class_=Own, info={"heard": heard})
    await GetOrCreator(sessions).get_or_create(Tag, name="a")
    assert heard == ["commit"]


@ASYNCPG
@pytest.mark.parametrize(
    "options",
    [
        {"isolation_level": "SERIALIZABLE"},
        {"isolation_level": "REPEATABLE READ"},
        {"schema_translate_map": {None: "public"}},
        {"stream_results": False},
    ],
)
async def test_engines(ways: Ways, options: dict[str, Any]) -> None:
    """However the engine executes."""
    ways.engine = ways.engine.execution_options(**options)
    await ways.compare(TAG)


@ASYNCPG
async def test_options_that_come_later(ways: Ways) -> None:
    """A creator goes where its sessions go, whatever was true at its first call.

    Fails without `get_execution_options` in `Judge.obstacle`, and without `kw` in
    `OwnTransactions._probe`.
    """
    elsewhere = {None: "nowhere"}
    sessions = async_sessionmaker(ways.engine)
    creator = GetOrCreator(sessions)
    await creator.get_or_create(Tag, name="a")
    sessions.configure(
        bind=ways.engine.execution_options(schema_translate_map=elsewhere)
    )
    with pytest.raises(ProgrammingError):
        await creator.get_or_create(Tag, name="a")
    sessions.configure(bind=ways.engine)
    assert not (await creator.get_or_create(Tag, name="a"))[1]
    ways.engine.sync_engine.update_execution_options(schema_translate_map=elsewhere)
    with pytest.raises(ProgrammingError):
        await creator.get_or_create(Tag, name="a")


@on_sqlite
async def test_sessions_with_several_binds(ways: Ways) -> None:
    """The sessions say where a model is."""
    ways.options = {"binds": {Tag: ways.engine, Author: None}}
    await ways.compare(TAG)


@ASYNCPG
async def test_hidden_values(ways: Ways) -> None:
    """Errors show no values where the engine shows none."""
    ways.engine.sync_engine.hide_parameters = True
    for defaults in ({"name": "s3cr3t"}, {"name": lambda: "s3cr3t"}, {"slug": "b"}):
        given: Any = {"name": "red", "defaults": defaults}
        case = either(lambda c, given=given: c.get_or_create(Tag, **given))
        seen = await ways.compare(case._replace(rows=lambda: [Tag(name="x", slug="b")]))
        assert seen.errors
        assert "s3cr3t" not in str(seen.errors)


@on_sqlite
async def test_engine_that_was_not_configured(url: str, ways: Ways) -> None:
    """SQLite's transactions are begun for it, in whatever session."""
    ways.engine = create_async_engine(url)
    await ways.compare(Case(TAG.call))
    await ways.engine.dispose()


@pytest.mark.parametrize("batch", [None, BATCH])
async def test_warns_once(engine: AsyncEngine, batch: Any) -> None:
    """The warning of a missing constraint comes once, and names the call's line."""
    vars(inspect(Review)).pop("_async_goc", None)
    creator = GetOrCreator(async_sessionmaker(engine), batch=batch)
    with pytest.warns(MissingConstraintWarning, match="by stars, so") as caught:
        await creator.get_or_create(Review, stars=1)
    await creator.get_or_create(Review, stars=1)  # A warning would be an error.
    assert [warning.filename for warning in caught] == [__file__]


@on_postgres
async def test_violation_at_commit(engine: AsyncEngine) -> None:
    """A constraint that is checked at COMMIT is reported as by a session's COMMIT."""
    sessions = async_sessionmaker(engine)
    creator = GetOrCreator(sessions)

    async def in_session(*args: Any, **lookup: Any) -> None:
        async with sessions.begin() as session:
            await get_or_create(session, *args, **lookup)

    errors: list[Any] = []
    for verb in (in_session, creator.get_or_create, creator.update_or_create):
        with pytest.raises(IntegrityError, match="note_author_id_fkey") as raised:
            await verb(Note, id=-1, author_id=-404)
        errors.append((str(raised.value), raised.value.__dict__.get("__notes__")))
    assert errors[0] == errors[1] == errors[2]
    async with sessions() as session:
        assert await session.get(Note, -1) is None


async def test_what_can_be_done_with_the_objects(ways: Ways) -> None:
    """They can be pickled, merged, and read anew, whatever lane they come from."""
    sessions = async_sessionmaker(ways.engine)

    async def copies(caller: Any) -> Any:
        ann, created = await caller.get_or_create(Author, name="Ann")
        red, _ = await caller.get_or_create(Tag, name="red")
        result: list[Any] = []
        for row in (ann, red):
            kept: Any = pickle.loads(pickle.dumps(row))  # noqa: S301
            async with sessions() as session:
                merged = await session.merge(row, load=False)
                assert merged in session
                assert not session.dirty
                await session.refresh(merged)
                session.expunge(merged)
            result += [(kept, created), (merged, created)]
        return result

    heard, lanes = await ways.see(Case(copies), ways.by_a_session)
    seen, others = await ways.see(Case(copies), ways.by_a_creator)
    assert seen == heard
    assert len(seen.results) == TWICE
    assert set(lanes) == {"session"} < set(others)
