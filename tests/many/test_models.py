"""One row or many: the same, however the model is loaded, mapped and inherited."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from backends import POSTGRES, each_strategy
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    composite,
    mapped_column,
    relationship,
)

from async_goc import (
    Event,
    Policy,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

pytestmark = pytest.mark.one_driver

LOADERS = [
    *("select", "joined", "selectin", "subquery", "raise", "raise_on_sql"),
]


def new_base() -> type[DeclarativeBase]:
    class Base(DeclarativeBase):
        pass

    return Base


def one_to_many(lazy: Any) -> type[Any]:
    base = new_base()

    class Thing(base):
        __tablename__ = "matrix_thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        box_id: Mapped[int] = mapped_column(sa.ForeignKey("matrix_box.id"))

    class Box(base):
        __tablename__ = "matrix_box"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        things = relationship(Thing, lazy=lazy)

    return Box


def many_to_one(lazy: Any) -> type[Any]:
    base = new_base()

    class Shelf(base):
        __tablename__ = "matrix_shelf"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Box(base):
        __tablename__ = "matrix_box"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        shelf_id: Mapped[int | None] = mapped_column(sa.ForeignKey("matrix_shelf.id"))
        shelf: Mapped[Any] = relationship(Shelf, lazy=lazy)

    return Box


def inherited(
    how: str, *, is_sub: bool = False, load: str = "", also: Any = None
) -> Any:
    """A base class, or its subclass; ``how`` is "joined" or "single"."""
    base = new_base()
    options = {} if also is None else {"with_polymorphic": also}

    class Animal(base):
        __tablename__ = "matrix_animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        kind: Mapped[str]
        __mapper_args__ = options | {
            "polymorphic_on": "kind",
            "polymorphic_identity": "animal",
        }

    if how == "single":

        class Single(Animal):
            bark: Mapped[int | None]
            __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

        return Single if is_sub else Animal

    class Joined(Animal):
        __tablename__ = "matrix_dog"
        id: Mapped[int] = mapped_column(
            sa.ForeignKey("matrix_animal.id"), primary_key=True
        )
        bark: Mapped[int | None]
        __mapper_args__ = {"polymorphic_identity": "dog"} | (
            {"polymorphic_load": load} if load else {}
        )

    return Joined if is_sub else Animal


def concrete() -> type[Any]:
    base = new_base()

    class Animal(base):
        __tablename__ = "matrix_animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]

    class Dog(Animal):
        __tablename__ = "matrix_dog"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        __mapper_args__ = {"concrete": True}  # noqa: RUF012

    return Dog


def by_expression() -> type[Any]:
    base = new_base()

    class Account(base):
        __tablename__ = "matrix_account"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        kind = column_property(sa.case((name < "A", "early"), else_="account"))
        __mapper_args__ = {  # noqa: RUF012
            "polymorphic_on": kind,
            "polymorphic_identity": "account",
        }

    class Early(Account):
        __mapper_args__ = {"polymorphic_identity": "early"}  # noqa: RUF012

    return Account


def without_identity() -> type[Any]:
    """A base class that no row says to be of, with one that rows are of."""
    base = new_base()

    class Animal(base):
        __tablename__ = "matrix_animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        kind: Mapped[str | None]
        __mapper_args__ = {"polymorphic_on": "kind"}  # noqa: RUF012

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    return Animal


def of_abstract_base() -> type[Any]:
    base = new_base()

    class Animal(base):
        __tablename__ = "matrix_animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        kind: Mapped[str]
        __mapper_args__ = {  # noqa: RUF012
            "polymorphic_on": "kind",
            "polymorphic_abstract": True,
        }

    class Dog(Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    return Dog


def with_expressions() -> type[Any]:
    base = new_base()

    class Other(base):
        __tablename__ = "matrix_other"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Box(base):
        __tablename__ = "matrix_box"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None]
        note: Mapped[str | None] = mapped_column(deferred=True)
        level: Mapped[int] = mapped_column(server_default="7")
        area: Mapped[int] = mapped_column(sa.Computed("level * 2"))
        shade: Mapped[str] = mapped_column(default=sa.func.lower("DARK"))
        double = column_property(2 * level)
        others = column_property(sa.select(sa.func.count(Other.id)).scalar_subquery())
        both = composite(lambda size, level: (size, level), "size", "level")

    return Box


def dataclass() -> type[Any]:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Box(Base):
        __tablename__ = "matrix_box"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        name: Mapped[str] = mapped_column(unique=True)
        size: Mapped[float | None] = mapped_column(default=None)

    return Box


MODELS: dict[str, Callable[[], type[Any]]] = {
    **{
        f"one to many, {lazy}": partial(one_to_many, lazy)
        for lazy in (*LOADERS, "write_only", "dynamic")
    },
    **{
        f"many to one, {lazy}": partial(many_to_one, lazy)
        for lazy in (*LOADERS, "immediate")
    },
    "joined": lambda: inherited("joined"),
    "joined, inline": lambda: inherited("joined", load="inline"),
    "joined, selectin": lambda: inherited("joined", load="selectin"),
    "joined, with *": lambda: inherited("joined", also="*"),
    "joined, subclass": lambda: inherited("joined", is_sub=True),
    "single": lambda: inherited("single"),
    "single, with *": lambda: inherited("single", also="*"),
    "single, subclass": lambda: inherited("single", is_sub=True),
    "concrete": concrete,
    "by expression": by_expression,
    "of abstract base": of_abstract_base,
    "expressions": with_expressions,
    "dataclass": dataclass,
}


def told(row: Any) -> dict[str, Any]:
    """What can be read of an object without SQL: all columns that are not deferred."""
    attributes = sa.inspect(row).mapper.column_attrs
    values = {a.key: getattr(row, a.key) for a in attributes if not a.deferred}
    return values | {"class": type(row).__name__, "id": None}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
async def test_models(
    session: AsyncSession, statements: list[str], make: Callable[[], type[Any]]
) -> None:
    """They find, create and update the same, by a constant number of statements."""
    model = make()
    connection = await session.connection()
    await connection.run_sync(model.metadata.create_all)
    outer = await session.begin_nested()
    expected = [await one_by_one(session, model, verb, size) for verb, size in CALLS]
    await outer.rollback()
    session.expunge_all()

    found: list[Any] = []
    events: list[Event] = []
    policy = Policy(observer=events.append)
    counts: dict[str, list[int]] = {"ab": [], "cdefghij": []}
    for names, count in counts.items():
        for verb, size in CALLS:
            rows = [{"name": name, "size": size} for name in names]
            statements.clear()
            result = await MANY[verb](session, model, rows, key="name", policy=policy)
            count.append(len(statements))
            found.append([(told(row), created) for row, created in result])
    assert found[: len(CALLS)] == expected
    # By an expression of the row, its class is returned as its columns are.
    assert make is not by_expression or events[0].strategy == "native"
    # SQLAlchemy's flush may take a statement for each row.
    if {event.strategy for event in events if event.attempts} == {"native"}:
        assert counts["ab"] == counts["cdefghij"]


@pytest.mark.heavy
@pytest.mark.parametrize("backend", POSTGRES[:1], indirect=True)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
async def test_keys_alone(session: AsyncSession, make: Callable[[], type[Any]]) -> None:
    """Each is created and found without an object that stays, and is whole afterwards.

    A key is that of the row, in whichever table of the model the row is.
    """
    model = make()
    await (await session.connection()).run_sync(model.metadata.create_all)
    rows = [{"name": name, "size": 1.5} for name in "bca"]
    made = await get_or_create_ids(session, model, rows, key="name")
    assert [created for _, created in made] == [True] * 3
    found = await get_or_create_ids(session, model, rows, key="name")
    assert not session.identity_map
    many = await get_or_create_many(session, model, rows, key="name")
    keys = [sa.inspect(row).identity[0] for row, _ in many]
    assert [key for key, _ in made] == [key for key, _ in found] == keys
    assert [told(row)["size"] for row, _ in many] == [1.5] * 3


async def test_default_that_takes_no_context(session: AsyncSession) -> None:
    """One that may take other arguments, such as `dict`, is no obstacle.

    Fails without `is_wrapped` in `_takes_context`.
    """
    base = new_base()

    class Box(base):
        __tablename__ = "matrix_box"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        data: Mapped[Any] = mapped_column(sa.PickleType, default=dict)

    await (await session.connection()).run_sync(base.metadata.create_all)
    events: list[Event] = []
    policy = Policy(observer=events.append)
    ((box, created),) = await get_or_create_many(
        session, Box, ["a"], key="name", policy=policy
    )
    assert (box.data, created, events[0].strategy) == ({}, True, "native")


async def test_rows_of_no_class(session: AsyncSession) -> None:
    """SQLAlchemy writes rows without a discriminator, and cannot load them.

    Fails without `polymorphic_identity` in `_of_model`: nothing is created.
    """
    model = without_identity()
    await (await session.connection()).run_sync(model.metadata.create_all)
    _, created = await get_or_create(session, model, name="a")
    assert created
    ((row, created),) = await get_or_create_many(session, model, ["b"], key="name")
    assert (row.name, row.kind, created) == ("b", None, True)


@each_strategy
async def test_concrete_base(session: AsyncSession) -> None:
    """The class of a row is then a column of a UNION, which no INSERT returns.

    Fails without `polymorphic_on` in `_of_model`.
    """

    class Animal(ConcreteBase, new_base()):
        __tablename__ = "matrix_animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        __mapper_args__ = {  # noqa: RUF012
            "polymorphic_identity": "animal",
            "concrete": True,
        }

    class Dog(Animal):
        __tablename__ = "matrix_dog"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        __mapper_args__ = {  # noqa: RUF012
            "polymorphic_identity": "dog",
            "concrete": True,
        }

    await (await session.connection()).run_sync(Animal.metadata.create_all)
    for model in (Animal, Dog):
        one = await get_or_create(session, model, name=f"{model.__name__}1")
        names = [f"{model.__name__}{number}" for number in (1, 2)]
        many = await get_or_create_many(session, model, names, key="name")
        assert [one, *many] == [(one[0], True), (one[0], False), (many[1][0], True)]
    found = await get_or_create_many(session, Animal, ["Animal1", "Dog2"], key="name")
    assert [(type(row), created) for row, created in found] == [
        (Animal, False),
        (Dog, False),
    ]


CALLS: list[tuple[Any, float]] = [
    *[(get_or_create, 1.5), (get_or_create, 2.5), (update_or_create, 3)]
]
MANY: dict[Any, Any] = {
    get_or_create: get_or_create_many,
    update_or_create: update_or_create_many,
}


async def one_by_one(
    session: AsyncSession, model: type[Any], verb: Any, size: float
) -> list[Any]:
    result: list[Any] = []
    for name in ("a", "b"):
        row, created = await verb(session, model, name=name, defaults={"size": size})
        result.append((told(row), created))
    return result
