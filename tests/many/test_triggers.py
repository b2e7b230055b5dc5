"""Many rows whose keys a trigger changes: created all the same, as one row would be."""

from typing import Any

import pytest
import sqlalchemy as sa
from rows import count
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    relationship,
    selectinload,
)

from async_goc import Event, Policy, get_or_create, get_or_create_many

ON_SQLITE = [
    """CREATE TRIGGER louder AFTER INSERT ON box BEGIN
    UPDATE box SET name = upper(name) WHERE id = NEW.id; END"""
]
ON_POSTGRES = [
    """CREATE FUNCTION louder() RETURNS trigger AS $$ BEGIN
    NEW.name = upper(NEW.name); RETURN NEW; END $$ LANGUAGE plpgsql""",
    """CREATE TRIGGER louder BEFORE INSERT ON box
    FOR EACH ROW EXECUTE FUNCTION louder()""",
]


def model_of(*, is_unique: bool, is_native: bool, has_double: bool) -> type[Any]:
    class Base(DeclarativeBase):
        pass

    # A default that is made of the row's other values needs the unit of work.
    default: Any = 7 if is_native else lambda context: 7 if context else 0

    class Thing(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        box_id: Mapped[int] = mapped_column(sa.ForeignKey("box.id"))

    class Box(Base):
        __tablename__ = "box"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=is_unique)
        level: Mapped[int] = mapped_column(default=default)
        if has_double:
            double = column_property(2 * sa.literal_column("level"))
        things: Mapped[list[Thing]] = relationship()

    return Box


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("is_unique", [True, False])
@pytest.mark.parametrize(
    ("is_loading", "has_double"), [(True, True), (True, False), (False, True)]
)
async def test_key_that_a_trigger_changes(
    session: AsyncSession,
    *,
    is_unique: bool,
    is_native: bool,
    is_loading: bool,
    has_double: bool,
) -> None:
    """Each row is created once, complete, and stands beside its own mapping.

    Fails without `_complete` in `Bulk._insert`.
    """
    model = model_of(is_unique=is_unique, is_native=is_native, has_double=has_double)
    connection = await session.connection()
    await connection.run_sync(model.metadata.create_all)
    on_sqlite = connection.dialect.name == "sqlite"
    for statement in ON_SQLITE if on_sqlite else ON_POSTGRES:
        await session.execute(sa.text(statement))
    events: list[Event] = []
    policy = Policy(observer=events.append, missing_constraint="ignore")
    one, created = await get_or_create(session, model, name="a", policy=policy)
    assert created

    options = [selectinload(model.things)] if is_loading else []
    result = await get_or_create_many(
        session, model, ["d", "b", "c"], key="name", options=options, policy=policy
    )
    assert [created for _, created in result] == [True] * 3
    assert await count(session, model) == 4
    if has_double:
        assert [row.double for row, _ in result] == [one.double] * 3 == [14] * 3
    assert [row.things for row, _ in result] == [[]] * 3
    for row, _ in result:
        await session.refresh(row)
    assert [row.name for row, _ in result] == ["D", "B", "C"]
    assert events[-1].strategy == ("native" if is_native else "savepoint")
