"""Rows of subclasses are found by their base class, with all of their columns."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    mapped_column,
    relationship,
    selectinload,
    undefer,
)

from async_goc import get_or_create, get_or_create_many, update_or_create_many


class Base(DeclarativeBase):
    pass


class Animal(Base):
    __tablename__ = "many_animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int | None]
    kind: Mapped[str]
    remark: Mapped[str | None] = mapped_column(deferred=True)
    toys: Mapped[list["Toy"]] = relationship()
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "animal",
    }


class Toy(Base):
    __tablename__ = "many_toy"
    id: Mapped[int] = mapped_column(primary_key=True)
    animal_id: Mapped[int] = mapped_column(sa.ForeignKey("many_animal.id"))


class Cat(Animal):
    lives: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012


class Kitten(Cat):
    __mapper_args__ = {"polymorphic_identity": "kitten"}  # noqa: RUF012


class Mouse(Animal):
    __mapper_args__ = {"polymorphic_identity": "mouse"}  # noqa: RUF012


class Dog(Animal):
    __tablename__ = "many_dog"
    id: Mapped[int] = mapped_column(sa.ForeignKey("many_animal.id"), primary_key=True)
    bark: Mapped[int | None]
    tale: Mapped[str | None] = mapped_column(deferred=True)
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Puppy(Dog):
    __tablename__ = "many_puppy"
    id: Mapped[int] = mapped_column(sa.ForeignKey("many_dog.id"), primary_key=True)
    weeks: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "puppy"}  # noqa: RUF012


KINDS: list[tuple[type[Any], dict[str, Any]]] = [
    (Animal, {}),
    (Mouse, {}),
    (Cat, {"lives": 9}),
    (Kitten, {"lives": 9}),
    (Dog, {"bark": 1}),
    (Puppy, {"bark": 1, "weeks": 3}),
]
SINGLE, JOINED = KINDS[:4], [KINDS[0], *KINDS[4:]]


async def add(session: AsyncSession, kinds: Any, number: int) -> list[dict[str, Any]]:
    """Add so many rows of each class; return what finds them, in mixed order."""
    connection = await session.connection()
    await connection.run_sync(Base.metadata.create_all)
    names = [f"n{n}" for n in range(number * len(kinds))]
    for place, name in enumerate(names):
        model, values = kinds[place % len(kinds)]
        session.add(model(name=f"{number}{name}", size=1, **values))
    await session.flush()
    session.expunge_all()
    return [{"name": f"{number}{name}", "size": 2} for name in names]


def check(found: Any, kinds: Any, size: int) -> None:
    """Each is of its class, and complete."""
    for place, (row, created) in enumerate(found):
        model, values = kinds[place % len(kinds)]
        assert (type(row), row.size, created) == (model, size, False)
        assert {name: getattr(row, name) for name in values} == values


@pytest.mark.parametrize(
    "kinds", [SINGLE, JOINED, KINDS], ids=["single", "joined", "all"]
)
async def test_counts(session: AsyncSession, statements: list[str], kinds: Any) -> None:
    """One SELECT for each subclass that has columns, whatever the number of rows."""
    counts: list[list[int]] = []
    for number in (3, 100):
        rows = await add(session, kinds, number)
        counts.append([])
        for verb, size in [(get_or_create_many, 1)] * 2 + [(update_or_create_many, 2)]:
            statements.clear()
            found = await verb(session, Animal, rows, key="name")
            counts[-1].append(statements.count("SELECT"))
            check(found, kinds, size)
        session.expunge_all()
        statements.clear()
        check(await update_or_create_many(session, Animal, rows, key="name"), kinds, 2)
        counts[-1].append(statements.count("SELECT"))
    own = sum(bool(values) for _, values in kinds)
    assert counts[0] == counts[1] == [1 + own, 1, 2 + own, 2 + 2 * own]


async def test_loaded_before(session: AsyncSession) -> None:
    """An update reads the subclass's columns anew: also deferred ones, if loaded."""
    rows = await add(session, JOINED, 1)
    dogs = [*await session.scalars(sa.select(Dog).options(undefer(Dog.tale)))]
    await session.execute(sa.update(Dog.__table__).values(bark=7, tale="x"))
    await update_or_create_many(session, Animal, rows, key="name")
    assert [(dog.bark, dog.tale, dog.size) for dog in dogs] == [(7, "x", 2)] * 2


@pytest.mark.parametrize("verb", [get_or_create_many, update_or_create_many])
async def test_options(session: AsyncSession, verb: Any) -> None:
    """What the options have loaded stays loaded.

    Fails without `known` in `look`.
    """
    rows = await add(session, KINDS, 1)
    found = await verb(
        session, Animal, rows, key="name", options=[selectinload(Animal.toys)]
    )
    assert [animal.toys for animal, _ in found] == [[]] * len(KINDS)


@pytest.mark.parametrize("verb", [get_or_create_many, update_or_create_many])
async def test_half_a_row(session: AsyncSession, verb: Any) -> None:
    """A row that its subclass's table lacks is an error, as it is for one row."""
    row, *_ = await add(session, JOINED[1:], 1)
    await session.execute(sa.delete(Puppy.__table__))
    await session.execute(sa.delete(Dog.__table__))
    with pytest.raises(InvalidRequestError, match="Could not refresh"):
        await get_or_create(session, Animal, name=row["name"])
    with pytest.raises(InvalidRequestError, match="Could not refresh"):
        await verb(session, Animal, [row], key="name")


@pytest.mark.parametrize("verb", [get_or_create_many, update_or_create_many])
async def test_deleted_in_the_meantime(session: AsyncSession, verb: Any) -> None:
    """A row that is deleted before its subclass's columns are read is created anew.

    Fails without `instance` in `look`.
    """
    rows = await add(session, JOINED[1:2], 1)
    deleted: list[object] = []

    def delete(state: ORMExecuteState) -> None:
        if state.bind_mapper is sa.inspect(Dog) and not deleted:
            deleted.append(state.statement)
            connection = state.session.connection()
            connection.execute(sa.delete(Dog.__table__))
            connection.execute(sa.delete(Animal.__table__))

    sa.event.listen(session.sync_session, "do_orm_execute", delete)
    ((animal, created),) = await verb(session, Animal, rows, key="name")
    assert (type(animal), animal.size, created) == (Animal, 2, True)
    assert deleted
