"""What as_unique hands out without SQL is what a SELECT would have found."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from backends import POSTGRES, Sessions, by_savepoint
from slippery import (
    Current,
    Ferry,
    Kind,
    Lowered,
    Owner,
    Page,
    Region,
    Ship,
    Special,
    Town,
    Visible,
    listening,
)
from sqlalchemy import delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import make_transient
from words import Form, User, Word, ask, ask_twice

from async_goc import Policy

# The memory is the same, however a row was inserted.
pytestmark = [by_savepoint, pytest.mark.one_driver]


@pytest.mark.parametrize(("model", "name"), [(Word, "text"), (User, "email")])
async def test_a_key_that_is_not_flushed_yet(
    sessions: Sessions, model: Any, name: str
) -> None:
    """A row that is found by what it still has is not remembered as having it."""
    async with sessions(autoflush=False) as session:
        found = await model.as_unique(session, **{name: "sun"})
        setattr(found, name, "moon")
        assert await model.as_unique(session, **{name: "sun"}) is found
        await session.flush()
        again = await model.as_unique(session, **{name: "sun"})
        assert again is not found
        assert getattr(again, name) == "sun"


async def test_a_row_that_is_to_be_inserted(session: AsyncSession) -> None:
    """An object whose row has gone, and is to come back, is flushed first."""
    word = await ask(session)
    await session.execute(delete(Word.__table__))
    make_transient(word)
    session.add(word)
    assert await ask(session) is word
    assert inspect(word).persistent


@pytest.mark.filterwarnings("ignore:Identity map:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("end", ["close", "expunge"])
async def test_added_again(session: AsyncSession, end: str) -> None:
    """An object that has been out of the session is asked for.

    Fails without `_on_return`.
    """
    word = await ask(session)
    if end == "close":
        await session.close()
    else:
        session.expunge(word)
        await session.execute(update(Word.__table__).values(text="moon"))
    session.add(word)
    again = await ask(session)
    assert again is not word
    assert await session.scalar(select(Word.id).filter_by(text="sun")) == again.id


async def test_a_row_that_a_rival_renames(
    sessions: Sessions, statements: list[str]
) -> None:
    """Found by its new name, an object that was loaded before loses its old one."""
    async with sessions(expire_on_commit=False) as session, sessions() as rival:
        word, other = await ask(session), await ask(session, "star")
        await session.commit()
        assert await ask(session) is word
        await rival.execute(update(Word).filter_by(text="sun").values(text="moon"))
        await rival.commit()
        # Nothing has told the session, and the object still says "sun".
        assert await ask(session) is word
        assert await ask(session, "moon") is word
        statements.clear()
        assert await ask(session, "star") is other
        assert statements == []
        assert await ask(session) is not word
        await session.refresh(word)
        assert await ask(session, "moon") is word


async def test_stored_as_another_value(session: AsyncSession) -> None:
    """A new row that does not have what was looked up is not remembered."""
    lowered = await Lowered.as_unique(session, name="A")
    assert lowered.name == "a"
    with pytest.raises(IntegrityError):
        await Lowered.as_unique(session, name="A")
    assert await ask_twice(session, Lowered, name="a") is lowered


@pytest.mark.filterwarnings("ignore:no unique constraint")
async def test_what_is_asked_for_each_time(
    session: AsyncSession, statements: list[str]
) -> None:
    """Rows that are found by more than their own columns."""
    await session.execute(insert(Word.__table__).values(id=1, text="sun"))
    await session.execute(insert(Ferry.__table__).values(id=1, name="f"))
    lookups: list[Any] = [
        (Current, {"name": "c"}),
        (Visible, {"text": "sun"}),
        (Ship, {"name": "f"}),
        (Word, {"text": func.lower("SUN")}),
    ]
    for model, lookup in lookups:
        first = await ask_twice(session, model, **lookup)
        statements.clear()
        assert await model.as_unique(session, **lookup) is first
        assert statements == ["SELECT"], model


async def test_concrete_classes(session: AsyncSession, statements: list[str]) -> None:
    """Each has rows of its own, which are remembered by its own columns."""
    ship, ferry = [await ask_twice(session, m, name="x") for m in (Ship, Ferry)]
    assert type(ship) is Ship
    assert type(ferry) is Ferry
    statements.clear()
    assert await Ferry.as_unique(session, name="x") is ferry
    assert statements == []
    ferry.name = "y"
    assert await Ferry.as_unique(session, name="x") is not ferry


async def test_hybrids_and_parents_in_criteria(
    session: AsyncSession, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are remembered by the columns behind them."""

    def of_word(word: Word, case: str) -> Any:
        return [Form.word == word, Form.case == case]

    monkeypatch.setattr(Form, "unique_filter", of_word)
    word, other = await ask(session), await ask(session, "moon")
    policy = Policy(missing_constraint="ignore")
    form = await Form.as_unique(session, word=word, case="x")
    more: Any = {"label": "a", "defaults": {"name": "a"}, "policy": policy}
    lowered = await Lowered.as_unique(session, **more)
    statements.clear()
    assert await Form.as_unique(session, word=word, case="x") is form
    assert await Lowered.as_unique(session, **more) is lowered
    assert statements == []
    form.word = other
    lowered.name = "b"
    assert await Form.as_unique(session, word=word, case="x") is not form
    assert await Lowered.as_unique(session, **more) is not lowered


@pytest.mark.filterwarnings("ignore:Flushing object:sqlalchemy.exc.SAWarning")
async def test_another_kind(session: AsyncSession) -> None:
    """A row that is no longer of the kind is not found, and its name is taken."""
    special = await ask_twice(session, Special, name="s")
    assert await Kind.as_unique(session, name="s") is special
    special.kind = "kind"
    with pytest.raises(IntegrityError):
        await Special.as_unique(session, name="s")


async def test_criteria_of_a_listener(
    session: AsyncSession, statements: list[str]
) -> None:
    """A listener may narrow down each SELECT: to a tenant, say."""

    def only_noted(state: Any) -> None:
        state.statement = state.statement.where(Word.note == "mine")

    word = await ask(session)
    with listening(session.sync_session, "do_orm_execute", only_noted):
        statements.clear()
        with pytest.raises(IntegrityError):
            await ask(session)
    assert "SELECT" in statements
    statements.clear()
    assert await ask(session) is word


@pytest.fixture
async def _schemas(engine: AsyncEngine) -> AsyncIterator[None]:
    """Two tenants, each with a word of its own."""
    async with engine.begin() as connection:
        for number, name in enumerate(("one", "two"), 1):
            await connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
            await connection.execute(text(f"CREATE SCHEMA {name}"))
            create = f"CREATE TABLE {name}.word (LIKE public.word INCLUDING ALL)"
            await connection.execute(text(create))
            row = insert(Word.__table__).values(id=number, text="sun")
            mapped = {"schema_translate_map": {None: name}}
            await connection.execute(row, execution_options=mapped)
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA one CASCADE"))
        await connection.execute(text("DROP SCHEMA two CASCADE"))


async def _by_connection(session: AsyncSession, schema: str) -> Policy:
    await session.commit()
    mapped = {"schema_translate_map": {None: schema}}
    await session.connection(execution_options=mapped)
    return Policy()


async def _by_bind(session: AsyncSession, schema: str) -> Policy:
    await session.commit()
    engine: Any = session.sync_session.bind
    mapped = {"schema_translate_map": {None: schema}}
    session.sync_session.bind = engine.execution_options(**mapped)
    return Policy()


async def _by_namespace(session: AsyncSession, schema: str) -> Policy:
    await session.execute(text(f"SET search_path TO {schema}"))
    return Policy(namespace=schema)


SWITCHES = [_by_connection, _by_bind, _by_namespace]


@pytest.mark.parametrize("backend", POSTGRES, indirect=True)
@pytest.mark.usefixtures("_schemas")
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.__name__)
async def test_tenants_by_schema(
    sessions: Sessions, switch: Any, statements: list[str]
) -> None:
    """The same lookup in another schema is another one."""
    async with sessions(expire_on_commit=False) as session:
        found: list[Word] = []
        for schema in ("one", "two", "one", "two"):
            policy = await switch(session, schema)
            word = await Word.as_unique(session, text="sun", policy=policy)
            found.append(word)
        assert [word.id for word in found] == [1, 2, 1, 2]
        assert statements.count("SELECT") == 2


@pytest.mark.parametrize("is_bulk", [True, False])
async def test_a_key_that_the_database_changes(
    session: AsyncSession, *, is_bulk: bool
) -> None:
    """ON UPDATE CASCADE changes rows of which the session is not told.

    Fails without `onupdate` in `is_beyond_control`.
    """
    session.add(region := Region(code="a"))
    await session.flush()
    town = await Town.as_unique(session, region_code="a")
    if is_bulk:
        await session.execute(update(Region).values(code="b"))
    else:
        region.code = "b"
        await session.flush()
    assert await session.scalar(select(Town.region_code)) == "b"
    session.expunge(region)
    session.add(Region(code="a"))
    await session.flush()
    again = await Town.as_unique(session, region_code="a")
    assert again is not town


@pytest.mark.parametrize("is_bulk", [True, False])
async def test_a_row_that_the_database_deletes(
    session: AsyncSession, *, is_bulk: bool
) -> None:
    """ON DELETE CASCADE takes rows of which the session is not told.

    Fails without `_on_delete`.
    """
    session.add(owner := Owner(code="o"))
    await session.flush()
    defaults = {"owner_id": owner.id}
    page = await Page.as_unique(session, name="a", defaults=defaults)
    if is_bulk:
        await session.execute(delete(Owner))
    else:
        await session.delete(owner)
        await session.flush()
    assert await session.scalar(select(func.count(Page.id))) == 0
    again = await Page.as_unique(session, name="a", defaults={"id": page.id + 1})
    assert again is not page
