"""Which rows stand in the way of a constraint that is to be added."""

from typing import Any

from backends import on_sqlite
from sqlalchemy import (
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    text,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from async_goc.checks import check

OPEN = {"sqlite_where": text("gone IS NULL")}
ROWS: list[tuple[str | None, int, int | None]] = [
    *[("a", 1, 1), ("a", 1, 1), ("a", 2, None)],
    *[("b", 1, None), ("B", 1, None), ("B", 3, None)],
    *[(None, 1, None), (None, 1, None), ("c", 1, None)],
]
# What is declared, and what is said; nothing is in the way of one that has `None`.
DECLARED: dict[str, tuple[Any, str | None]] = {
    "plain": (UniqueConstraint("name"), "2 keys are there more than once by (name)"),
    "pair": (UniqueConstraint("name", "hall"), "1 key is there more than once"),
    "lower": (Index("k", func.lower(text("name")), unique=True), "most frequent 3"),
    "as_text": (Index("l", text("lower(name) DESC"), unique=True), "most frequent 3"),
    "descending": (Index("m", text("name DESC"), unique=True), "2 keys"),
    "partial": (Index("n", "name", unique=True, **OPEN), "1 key is there"),
    "partial_text": (Index("o", "name", unique=True, sqlite_where="hall > 1"), None),
    "partial_pair": (Index("p", "name", "hall", unique=True, **OPEN), None),
}


@on_sqlite
async def test_duplicates(place: AsyncEngine) -> None:
    """Keys are counted as the database would compare them: NULLs apart, case and all.

    Fails without `_condition` in `_count`.
    """
    metadata = MetaData()
    for name, (declared, _) in DECLARED.items():
        kept = Table(
            name,
            metadata,
            Column("name", String),
            Column("hall", Integer),
            Column("gone", Integer),
        )
        async with place.begin() as connection:
            await connection.run_sync(kept.create)
            rows = [dict(zip(("name", "hall", "gone"), r, strict=True)) for r in ROWS]
            await connection.execute(insert(kept), rows)
        if isinstance(declared, Index):
            declared._set_parent(kept)
        else:
            kept.append_constraint(declared)
    findings = await check(place, metadata)
    said = {f.model: f.message for f in findings if f.code == "duplicates"}
    wanted = {name: words for name, (_, words) in DECLARED.items() if words}
    assert said.keys() == wanted.keys()
    assert [name for name, words in wanted.items() if words not in said[name]] == []
    # Nothing that a row has is in a message.
    assert not [each for each in findings if "'a'" in str(each) or "'B'" in str(each)]
