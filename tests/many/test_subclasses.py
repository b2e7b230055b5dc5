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

pytestmark = pytest.mark.one_driver


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


class Place(Base):
    __tablename__ = "many_place"
    row: Mapped[int] = mapped_column(primary_key=True)
    column: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int | None]
    kind: Mapped[str]
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "place",
    }


class House(Place):
    __tablename__ = "many_house"
    row: Mapped[int] = mapped_column(primary_key=True)
    column: Mapped[int] = mapped_column(primary_key=True)
    rooms: Mapped[int | None]
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["row", "column"], ["many_place.row", "many_place.column"]
        ),
    )
    __mapper_args__ = {"polymorphic_identity": "house"}  # noqa: RUF012


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


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("verb", [get_or_create_many, update_or_create_many])
@pytest.mark.parametrize(
    ("models", "keys"),
    [
        ((Animal, Dog, Puppy), [{"id": n} for n in range(4)]),
        ((Place, House, House), [{"column": n, "row": n // 2} for n in range(4)]),
    ],
    ids=["one column", "two columns"],
)
async def test_primary_keys(
    session: AsyncSession, models: Any, keys: list[Any], verb: Any, *, is_known: bool
) -> None:
    """A key that is a column of each table of a row finds it, and makes the last one.

    Fails without `columns` in `Shape.__init__`.
    """
    connection = await session.connection()
    await connection.run_sync(Base.metadata.create_all)
    names = {"name": "n"} if models[0] is Animal else {}
    for number, (model, key) in enumerate(zip(models, keys, strict=False)):
        unique = {name: f"{value}{number}" for name, value in names.items()}
        own = {"bark": 7} if issubclass(model, Dog) else {}
        own |= {"rooms": 7} if model is House else {}
        session.add(model(size=1, **key, **unique, **own))
    await session.flush()
    known = [*await session.scalars(sa.select(models[0]))] if is_known else []
    if not is_known:
        session.expunge_all()
    rows = [{"size": 2, **key, **names} for key in reversed(keys)]
    update = ["size"] if verb is update_or_create_many else None
    how = {} if update is None else {"update": update}
    found = [*reversed(await verb(session, models[0], rows, key=tuple(keys[0]), **how))]
    assert [type(row) for row, _ in found] == [*models, models[0]]
    assert [created for _, created in found] == [False, False, False, True]
    size = 1 if update is None else 2
    assert [row.size for row, _ in found] == [size, size, size, 2]
    for row, _ in found[1:3]:
        assert vars(row)["rooms" if isinstance(row, House) else "bark"] == 7
    assert {row for row, _ in found[:3]} >= {*known}


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

    Fails without `answers` in `look`.
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
