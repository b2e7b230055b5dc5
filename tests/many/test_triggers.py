"""Many rows whose keys a trigger changes: created all the same, as one row would be."""

from typing import Any

import pytest
import sqlalchemy as sa
from backends import on_postgres
from by_ids import Many
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
from async_goc.exceptions import AsyncGocError

pytestmark = pytest.mark.one_driver

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


class Base(DeclarativeBase):
    pass


class Slot(Base):
    __tablename__ = "slot"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    phone: Mapped[str | None] = mapped_column(unique=True)


async def create_with_trigger(session: AsyncSession, change: str) -> None:
    """Create the table, in which each row's number is changed so."""
    connection = await session.connection()
    await connection.run_sync(Base.metadata.create_all)
    for statement in (
        f"""CREATE FUNCTION moved() RETURNS trigger AS $$ BEGIN
        NEW.number = {change}; RETURN NEW; END $$ LANGUAGE plpgsql""",
        """CREATE TRIGGER moved BEFORE INSERT ON slot
        FOR EACH ROW EXECUTE FUNCTION moved()""",
    ):
        await session.execute(sa.text(statement))


@on_postgres
@pytest.mark.parametrize("change", ["NEW.number + 1", "4 - NEW.number"])
async def test_key_that_becomes_the_key_of_another(
    session: AsyncSession, change: str, many: Many
) -> None:
    """A row that has got the key of another one is not taken for that.

    If all keys are there, in another order, the database says which row has which.
    Fails without `are_mixed_up` in `_insert_natively`.
    """
    await create_with_trigger(session, change)
    rows = [{"number": number, "phone": f"of {number}"} for number in (1, 2, 3)]
    result = await many(session, Slot, rows, key="number")
    assert [created for _, created in result] == [True] * 3
    found = [(slot.number, slot.phone) for slot, _ in result]
    if "+" in change:
        assert found == [(2, "of 1"), (3, "of 2"), (4, "of 3")]
    else:
        assert found == [(1, "of 3"), (2, "of 2"), (3, "of 1")]


@on_postgres
async def test_rows_that_cannot_be_told_apart(session: AsyncSession) -> None:
    """Where some are skipped and others changed, none is inserted a second time.

    Fails without `others` in `Bulk._insert`: ContentionError.
    """
    await create_with_trigger(session, "NEW.number + 10")
    rows = [{"number": number, "phone": "the same"} for number in (1, 2)]
    with pytest.raises(AsyncGocError, match="some of the Slot were inserted with"):
        await get_or_create_many(session, Slot, rows, key="number")
    assert await count(session, Slot) == 0
