"""Many rows, by a constant number of statements."""

from collections.abc import Mapping
from typing import Any

from by_ids import Many
from models import Author, Employee, Person, Tag
from rivals import rival
from rows import named
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import selectinload

from async_goc import (
    Event,
    Policy,
    get_or_create,
    get_or_create_many,
)


async def test_order_flags_and_duplicates(
    session: AsyncSession, statements: list[str], many: Many
) -> None:
    """The result has the input's order; equal keys share the first one's instance."""
    old, _ = await get_or_create(session, Tag, name="m")
    statements.clear()
    rows = [
        {"name": "z", "colour": "first"},
        {"name": "m", "colour": "not taken"},
        {"name": "a"},
        {"name": "z", "colour": "second"},
    ]
    result = await many(session, Tag, rows, key="name")
    assert statements == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]
    assert [(tag.name, created) for tag, created in result] == [
        *(("z", True), ("m", False), ("a", True), ("z", False)),
    ]
    assert result[1][0] is old
    assert result[3][0] is result[0][0]
    assert (result[0][0].colour, old.colour) == ("first", None)
    assert result[0][0].made_at is not None
    assert not session.dirty
    statements.clear()
    again = await many(session, Tag, iter(rows))
    assert statements == ["SELECT"]
    assert [(tag, False) for tag, _ in result] == again


async def test_three_statements_per_chunk(
    engine: AsyncEngine,
    session: AsyncSession,
    statements: list[str],
    before_insert: list[Any],
    many: Many,
) -> None:
    """Three statements for a chunk at most; progress counts the rows."""
    if engine.dialect.name == "sqlite":
        return  # It has one writer.
    done: list[tuple[int, int | None]] = []
    rows = [{"name": f"{number:05}"} for number in range(1_000)]
    session.add_all(Tag(name=row["name"]) for row in rows[::2])
    await session.commit()
    statements.clear()
    before_insert.append(rival(engine, Tag(name="00001")))
    result = await many(
        session,
        Tag,
        (row for row in rows),
        chunk_size=250,
        progress=lambda *counts: done.append(counts),
    )
    chunk = ["SELECT", "INSERT"]
    rivals = ["INSERT"]
    lost = ["SELECT", "SAVEPOINT", "INSERT", *rivals, "SELECT"]
    assert [s for s in statements if s != "COMMIT"] == [*lost, *chunk * 3, "RELEASE"]
    assert [tag.name for tag, _ in result] == [row["name"] for row in rows]
    assert sum(created for _, created in result) == 499
    assert not result[1][1]
    assert done == [(n, None) for n in (250, 500, 750, 1_000)]


async def test_progress_counts_duplicates(session: AsyncSession, many: Many) -> None:
    """Progress counts every row of the input, and tells the total if it is known."""
    done: list[tuple[int, int | None]] = []
    await many(
        session,
        Tag,
        named("b", "a", "b", "c"),
        chunk_size=1,
        progress=lambda *counts: done.append(counts),
    )
    assert done == [(1, 4), (3, 4), (4, 4)]


async def test_defaults(session: AsyncSession, many: Many) -> None:
    """Defaults fill what a row lacks; functions are called for each new row."""
    await get_or_create(session, Tag, name="old")
    calls = iter(range(10))

    async def slug() -> str:
        return f"slug {next(calls)}"

    rows = [*named("old", "b", "a"), {"name": "c", "slug": "own"}]
    result = await many(
        session, Tag, rows, key="name", defaults={"slug": slug, "colour": "red"}
    )
    assert [tag.slug for tag, _ in result] == [None, "slug 1", "slug 0", "own"]
    assert [tag.colour for tag, _ in result] == [None, "red", "red", "red"]

    def all_of_them() -> Mapping[str, Any]:
        return {"colour": "blue"}

    result = await many(session, Tag, named("d"), defaults=all_of_them)
    assert result[0][0].colour == "blue"


async def test_rows_that_leave_out_different_columns(
    session: AsyncSession, many: Many
) -> None:
    """What the database would fill, it fills where a row has nothing for it."""
    moment = (await get_or_create(session, Tag, name="x"))[0].made_at.replace(year=1999)
    rows = [
        {"name": "a", "made_at": moment},
        {"name": "b"},
        {"name": "c", "id": 1_000, "colour": None},
        {"name": "d", "made_at": None},
    ]
    result = await many(session, Tag, rows, key="name")
    assert all(created for _, created in result)
    a, b, c, d = (tag for tag, _ in result)
    assert a.made_at == moment
    assert b.made_at != moment
    assert c.id == 1_000
    assert d.made_at != moment


async def test_options(session: AsyncSession, many: Many) -> None:
    """Loader options hold for the rows found, and for those created."""
    await get_or_create(session, Author, name="Ann")
    await session.commit()
    session.expunge_all()
    result = await many(
        session, Author, named("Ann", "Bob"), options=[selectinload(Author.books)]
    )
    assert [author.books for author, _ in result] == [[], []]


async def test_models_that_need_the_unit_of_work(
    session: AsyncSession, statements: list[str]
) -> None:
    """Such models take one flush for each chunk, inside a SAVEPOINT."""
    events: list[Event] = []
    policy = Policy(observer=events.append)
    rows = [{"name": f"n{number}", "badge": number} for number in range(6)]
    await get_or_create(session, Employee, name="n3", defaults={"badge": 3})
    statements.clear()
    result = await get_or_create_many(
        session, Employee, rows, key="name", chunk_size=4, policy=policy
    )
    assert [employee.badge for employee, _ in result] == list(range(6))
    assert [created for _, created in result].count(False) == 1
    assert events[0].strategy == "savepoint"
    assert statements.count("SAVEPOINT") == 3
    # The base class finds them, with all of their columns.
    found = await get_or_create_many(session, Person, named("n1"), key="name")
    assert isinstance(found[0][0], Employee)
    session.expunge_all()
    found = await get_or_create_many(session, Person, named("n1"), key="name")
    assert found[0][0].badge == 1
