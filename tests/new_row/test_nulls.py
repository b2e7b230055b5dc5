"""None is looked up as NULL and stored as NULL, whatever fills the column otherwise."""

from typing import Any

import pytest
from backends import on_postgres
from filled import Filled, FilledData, FilledOnce, Owner, Span
from models import Tag
from rivals import on_lost, rival
from sqlalchemy import Null, delete, event, null, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

from async_goc import Policy, get_or_create, update_or_create
from async_goc.exceptions import ContradictionError

pytestmark = pytest.mark.one_driver

quiet = Policy(missing_constraint="ignore")


@pytest.fixture(autouse=True)
async def _owner(engine: AsyncEngine) -> None:
    await rival(engine, Owner(id=1))()


COLUMNS = [
    *("scalar", "called", "by_sql", "by_server", "both", "changing", "blank", "json"),
    *("mutable", "checked", "owner_id"),
]
# By keyword: the value to look up, and the columns that it wants NULL.
LOOKUPS: dict[str, tuple[Any, list[str]]] = {
    **{name: (None, [name]) for name in COLUMNS},
    "owner": (None, ["owner_id"]),
    "other_name": (None, ["scalar"]),
    "by_hybrid": (None, ["called"]),
    "span": (Span(None, 2), ["start"]),
}


async def stored(session: AsyncSession, key: int) -> set[str]:
    """The columns that are NULL in the row."""
    names = [*COLUMNS, "start"]
    nulls = select(*(getattr(Filled, name).is_(None) for name in names))
    row = (await session.execute(nulls.where(Filled.id == key))).one()
    return {name for name, is_null in zip(names, row, strict=True) if is_null}


@pytest.mark.parametrize(
    ("model", "name", "is_filled"),
    [(Filled, "scalar", True), (Filled, "mutable", True), (Tag, "slug", False)],
)
async def test_listener_sees_null_where_none_would_be_replaced(
    session: AsyncSession, model: Any, name: str, *, is_filled: bool
) -> None:
    """Elsewhere, and once the row is inserted, the object has None."""
    seen: list[object] = []

    def note(_mapper: object, _connection: object, target: object) -> None:
        seen.append(getattr(target, name))

    event.listen(model, "before_insert", note)
    try:
        lookup = {"name": "a", name: None}
        row, created = await get_or_create(session, model, policy=quiet, **lookup)
    finally:
        event.remove(model, "before_insert", note)
    assert created
    assert getattr(row, name) is None
    assert [isinstance(value, Null) for value in seen] == [is_filled]
    assert is_filled or seen == [None]


@pytest.mark.parametrize(
    ("name", "value", "nulls"), [(n, *v) for n, v in LOOKUPS.items()]
)
async def test_none_is_stored_as_null(
    session: AsyncSession, name: str, value: Any, nulls: list[str]
) -> None:
    """The row is found by the next call, and reads None without another await.

    Fails without `_keep_nulls` in `NewRow.make`.
    """
    verbs: list[Any] = [get_or_create, update_or_create]
    for verb, other in (verbs, reversed(verbs)):
        lookup = {name: value, "name": verb.__name__}
        made, created = await verb(session, Filled, policy=quiet, **lookup)
        assert created
        assert [getattr(made, n) for n in (name, *nulls)] == [
            value,
            *(None for _ in nulls),
        ]
        assert made not in session.dirty
        expected = {"mutable", *nulls}
        assert await stored(session, made.id) == expected
        session.expunge_all()
        found, created = await other(session, Filled, policy=quiet, **lookup)
        assert (created, found.id) == (False, made.id)


@pytest.mark.parametrize(
    "criteria",
    [
        [Filled.scalar.is_(None), Filled.by_server.is_(None)],
        [(Filled.scalar == None) & (Filled.by_server == null())],  # noqa: E711
        [Filled.owner == None],  # noqa: E711
        [Filled.span == Span(None, 2), Filled.json.is_(None)],
    ],
    ids=["is_", "==", "relationship", "composite"],
)
async def test_criteria(session: AsyncSession, criteria: list[Any]) -> None:
    """Criteria that ask for NULL are met by the row that they create."""
    ids = set()
    for expected in (True, False):
        row, created = await get_or_create(
            session, Filled, *criteria, name="a", policy=quiet
        )
        assert created is expected
        ids.add(row.id)
        session.expunge(row)
    assert len(ids) == 1


@pytest.mark.parametrize("name", ["needed", "needed_by_server"])
async def test_not_null(session: AsyncSession, name: str) -> None:
    """What cannot be NULL is the database's error, and no row with another value."""
    with pytest.raises(IntegrityError):
        await get_or_create(session, Filled, name="a", policy=quiet, **{name: None})


async def test_what_the_defaults_say(session: AsyncSession) -> None:
    """A default of None is as in a flush, but not where the lookup asks for NULL."""
    row, _ = await get_or_create(
        session,
        Filled,
        name="a",
        scalar=None,
        by_server=None,
        defaults={"scalar": lambda: None, "by_server": null(), "both": None},
        policy=quiet,
    )
    assert (row.scalar, row.by_server, row.both) == (None, None, "x")
    with pytest.raises(ContradictionError):
        await get_or_create(
            session, Filled, name="b", scalar=None, defaults={"scalar": "main"}
        )
    row, created = await update_or_create(
        session, Filled, name="c", scalar=None, defaults={"scalar": "x"}, policy=quiet
    )
    assert (created, row.scalar) == (True, "x")


@pytest.mark.parametrize(
    "lookup", [{"kind": None}, {"late": None}, {"owner_id": None}, {"owner": None}]
)
async def test_dataclass(session: AsyncSession, lookup: dict[str, Any]) -> None:
    """A dataclass's own defaults, an absent parent's too, do not replace NULL."""
    for expected in (True, False):
        row, created = await get_or_create(
            session, FilledData, name="a", policy=quiet, **lookup
        )
        assert created is expected
        assert [getattr(row, name) for name in lookup] == [None]
        session.expunge_all()


@pytest.mark.parametrize("is_flushing", [False, True])
async def test_factory(session: AsyncSession, *, is_flushing: bool) -> None:
    """A factory is given None; what it has flushed itself, or set, is left alone."""

    async def factory(scalar: str | None, by_server: str | None, name: str) -> Filled:
        assert scalar is by_server is None
        made = Filled(name=name, by_server=by_server)
        if is_flushing:
            session.add(made)
            await session.flush()
        else:
            made.called = "own"
        return made

    row, _ = await get_or_create(
        session,
        Filled,
        name="a",
        scalar=None,
        by_server=None,
        factory=factory,
        policy=quiet,
    )
    filled = "main" if is_flushing else None
    assert (row.scalar, row.by_server) == (filled, filled)


@on_postgres
async def test_rival_that_vanishes(engine: AsyncEngine, session: AsyncSession) -> None:
    """Where NULLs conflict, a rival's NULL that is gone again is a lost attempt.

    Fails without `Null` in `differs`.
    """
    rivals = [FilledOnce(level=null())]

    def factory(**values: Any) -> FilledOnce:
        if rivals:
            await_only(rival(engine, rivals.pop())())
        return FilledOnce(**values)

    async def vanish() -> None:
        async with AsyncSession(engine) as other, other.begin():
            await other.execute(delete(FilledOnce))

    async with on_lost(engine, vanish):
        row, created = await get_or_create(
            session, FilledOnce, level=None, factory=factory
        )
    assert (row.level, created, rivals) == (None, True, [])
