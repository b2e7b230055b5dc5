"""Where the engine hides parameters, no message and no note of ours shows values."""

import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from backends import by_savepoint
from models import Book, Node, Tag
from rivals import rival
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from async_goc import Policy, get_or_create, get_or_create_many, sqlite
from async_goc.exceptions import ContradictionError

pytestmark = pytest.mark.one_driver

HIDDEN = "s3cr3t"


class Secret:
    def __repr__(self) -> str:
        return HIDDEN


SECRET: Any = Secret()


@pytest.fixture(params=[True, False], ids=["hidden", "shown"])
def is_hidden(request: pytest.FixtureRequest) -> bool:
    hidden: bool = request.param
    return hidden


@pytest.fixture
async def engine(url: str, is_hidden: bool) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url, hide_parameters=is_hidden)
    if engine.dialect.name == "sqlite":
        sqlite.configure(engine)
    yield engine
    await engine.dispose()


CALLS: dict[str, Callable[[AsyncSession], Any]] = {
    "default": lambda s: get_or_create(s, Tag, name="a", defaults={"name": HIDDEN}),
    "lazy": lambda s: get_or_create(
        s, Tag, name="a", defaults={"name": lambda: HIDDEN}
    ),
    "lookup": lambda s: get_or_create(s, Tag, name="a", label=HIDDEN),
    "criterion": lambda s: get_or_create(s, Tag, Tag.name == HIDDEN, name="a"),
}


@by_savepoint
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_contradictions(
    session: AsyncSession, call: Any, is_hidden: bool
) -> None:
    """The error has the values, and shows them only where SQLAlchemy would.

    Fails without `hide` in `Call._end_badly`.
    """
    with pytest.raises(ContradictionError, match=r"Tag\.\w+ would be") as raised:
        await call(session)
    error = raised.value
    copy: ContradictionError = pickle.loads(pickle.dumps(error))  # noqa: S301
    for shown in (str(error), repr(error), str(copy)):
        assert (HIDDEN in shown) is not is_hidden
    assert HIDDEN in {error.wanted, error.given, copy.wanted, copy.given}


async def made_before(session: AsyncSession) -> None:
    old, _ = await get_or_create(session, Tag, name="old")
    await get_or_create(session, Tag, name="a", factory=lambda **_: old)


WRONG: dict[str, Callable[[AsyncSession], Any]] = {
    "session": lambda _: get_or_create(SECRET, Tag, name="a"),
    "criterion": lambda s: get_or_create(s, Tag, HIDDEN),
    "mapping": lambda s: get_or_create(s, Tag, {"name": HIDDEN}),
    "options": lambda s: get_or_create(s, Tag, name="a", options=HIDDEN),
    "policy": lambda s: get_or_create(s, Tag, name="a", policy=SECRET),
    "parent": lambda s: get_or_create(s, Book, title="a", author=SECRET),
    "defaults": lambda s: get_or_create(s, Tag, name="a", defaults=[HIDDEN]),
    "lazy defaults": lambda s: get_or_create(
        s, Tag, name="a", defaults=lambda: [HIDDEN]
    ),
    "key of a default": lambda s: get_or_create(
        s, Tag, name="a", defaults={(HIDDEN,): 1}
    ),
    "factory": lambda s: get_or_create(s, Tag, name="a", factory=HIDDEN),
    "made": lambda s: get_or_create(s, Tag, name="a", factory=lambda **_: HIDDEN),
    "made before": made_before,
    "rows": lambda s: get_or_create_many(s, Tag, HIDDEN, key="name"),
    "row": lambda s: get_or_create_many(s, Tag, [HIDDEN]),
    "parents": lambda s: get_or_create_many(
        s, Book, [{"title": "a", "author": SECRET}], key=["title", "author"]
    ),
    "namespace": lambda _: Policy(namespace=[HIDDEN]),
    "locks": lambda _: Policy(locks=SECRET),
}


@by_savepoint
@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
async def test_arguments_of_a_wrong_type(
    session: AsyncSession, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the argument, and the type where it is wrong, but no value."""
    monkeypatch.setattr(Tag, "__repr__", lambda _: HIDDEN)
    with pytest.raises((TypeError, ValueError, InvalidRequestError)) as raised:
        await call(session)
    assert HIDDEN not in str(raised.value)
    assert ";" in str(raised.value)  # what happened; what to do


@by_savepoint
async def test_notes(engine: AsyncEngine, session: AsyncSession) -> None:
    """No note repeats what the database says of the row: it may be its values.

    Fails without `label` in `explain`: PostgreSQL's DETAIL.
    """
    await rival(engine, Tag(name=HIDDEN, slug=HIDDEN))()
    calls: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
        (Tag, {"name": "b"}, {"slug": HIDDEN}),
        (Tag, {"name": HIDDEN, "colour": HIDDEN}, {}),
        (Tag, {"name": "c"}, {"colour": "bad", "slug": HIDDEN + "2"}),
        (Node, {"name": HIDDEN, "parent_id": 404}, {}),
        (Book, {"title": HIDDEN, "author_id": None}, {}),
    ]
    policy = Policy(missing_constraint="ignore")
    for model, lookup, defaults in calls:
        with pytest.raises(IntegrityError) as raised:
            await get_or_create(
                session, model, defaults=defaults, policy=policy, **lookup
            )
        assert HIDDEN not in "".join(raised.value.__notes__)
        await session.rollback()


async def test_session_without_a_bind() -> None:
    """Where the engine is not known, the values are not shown."""
    async with AsyncSession() as session:
        with pytest.raises(ContradictionError) as raised:
            await get_or_create(session, Tag, name="a", defaults={"name": HIDDEN})
    assert HIDDEN not in str(raised.value)
