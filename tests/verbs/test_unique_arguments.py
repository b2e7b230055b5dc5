"""What as_unique refuses, it refuses where it would have needed no SQL, too."""

from collections.abc import Hashable
from typing import Any

import pytest
from backends import Sessions, before_sql
from slippery import Hashed, Part
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload
from words import Alias, Form, User, Word

from async_goc import Event, Outcome, Policy
from async_goc.exceptions import (
    ContradictionError,
    MissingConstraintError,
    UnknownFieldError,
)

STRICT = Policy(missing_constraint="error")
WORD = {"text": "sun"}
USER = {"email": "Ann@b.c"}


def make(**values: Any) -> User:
    values.pop("extra")
    return User(**values)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"defaults": {"name": "Ann"}},
        {"defaults": lambda: {"name": "Ann"}},
        {"defaults": {"name": "Ann"}, "factory": User},
    ],
    ids=["nothing", "mapping", "function", "factory"],
)
async def test_what_cannot_contradict(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    """It costs a cached hit no criteria, which take longer to build than all else.

    Fails without `callable` in `_are_unrelated`.
    """
    built: list[str] = []
    build = User.unique_filter

    def note(**lookup: Any) -> Any:
        built.append("")
        return build(**lookup)

    monkeypatch.setattr(User, "unique_filter", note)
    ann = await User.as_unique(session, **USER, **arguments)
    for _ in range(3):
        assert await User.as_unique(session, **USER, **arguments) is ann
    assert len(built) == 1


@pytest.mark.parametrize(
    ("model", "lookup", "wrong", "error"),
    [
        (Word, WORD, {"defaults": {"nott": 1}}, UnknownFieldError),
        (Word, WORD, {"defaults": {"text": "moon"}}, ContradictionError),
        (Word, WORD, {"defaults": {Word.text: "moon"}}, ContradictionError),
        (Word, WORD, {"defaults": "note"}, TypeError),
        (Word, WORD, {"defaults": {1: 2}}, TypeError),
        (Word, WORD, {"factory": "Word"}, TypeError),
        (Word, WORD, {"policy": "strict"}, TypeError),
        (Word, WORD, {"options": ["forms"]}, TypeError),
        (Word, WORD, {"options": None}, TypeError),
        (User, USER, {"defaults": {"nam": "Ann"}}, UnknownFieldError),
        (User, USER, {"defaults": {"email": "x@y.z"}}, ContradictionError),
        (User, USER, {"defaults": {User.email: "x@y.z"}}, ContradictionError),
        (User, USER, {"defaults": "name"}, TypeError),
        (User, USER, {"defaults": 5}, TypeError),
        (User, USER, {"nam": "Ann"}, UnknownFieldError),
        (User, USER, {"factory": 1}, TypeError),
        (Alias, {"name": "Zed"}, {"defaults": {"name": "zoe"}}, ContradictionError),
        (Alias, {"name": "Zed"}, {"defaults": {Alias.name: "Zed"}}, ContradictionError),
    ],
)
@before_sql
async def test_on_a_hit(
    sessions: Sessions,
    statements: list[str],
    model: Any,
    lookup: dict[str, Any],
    wrong: dict[str, Any],
    error: type[Exception],
) -> None:
    """Each argument is checked, although the object is known."""
    async with sessions() as session, sessions() as other:
        known = await model.as_unique(session, **lookup)
        statements.clear()
        events: list[Event] = []
        policy = {"policy": Policy(observer=events.append), **wrong}
        for asked in (session, other):
            with pytest.raises(error) as raised:
                await model.as_unique(asked, **{**lookup, **policy})
            assert raised.type is error
        assert {event.outcome for event in events} <= {Outcome.FAILED}
        assert await model.as_unique(session, **lookup) is known
        assert statements == []


@before_sql
async def test_what_is_right(session: AsyncSession, statements: list[str]) -> None:
    """What is right costs no SQL: defaults and factories of all kinds."""
    word = await Word.as_unique(session, **WORD)
    user = await User.as_unique(session, **USER)
    await User.as_unique(session, **USER, factory=User)
    statements.clear()

    async def lazily() -> dict[str, Any]:
        raise AssertionError

    for defaults in ({"note": "x"}, {"text": "sun"}, {Word.note: lazily}, lazily, {}):
        assert await Word.as_unique(session, **WORD, defaults=defaults) is word
    for defaults in ({"name": "A"}, USER, {User.name: "A"}, lazily, {}):
        assert await User.as_unique(session, **USER, defaults=defaults) is user
    assert await User.as_unique(session, **USER, factory=User) is user
    assert statements == []
    await Word.as_unique(session, **WORD, options=[selectinload(Word.forms)])
    assert statements == ["SELECT", "SELECT"]


@before_sql
async def test_names_that_only_a_factory_takes(session: AsyncSession) -> None:
    """What a factory takes is unknown without one."""
    user = await User.as_unique(session, **USER, extra=1, factory=make)
    assert await User.as_unique(session, **USER, extra=1, factory=make) is user
    with pytest.raises(UnknownFieldError):
        await User.as_unique(session, **USER, extra=1)


@pytest.mark.filterwarnings("ignore::async_goc.exceptions.MissingConstraintWarning")
@before_sql
async def test_missing_constraint(session: AsyncSession, statements: list[str]) -> None:
    """A lookup without a constraint is refused by the policy, known or not."""
    lookups: list[Any] = [(Part, {"owner_id": None}), (Hashed, {"name": "a"})]
    for model, lookup in lookups:
        known = await model.as_unique(session, **lookup, defaults={"name": "a"})
        assert await model.as_unique(session, **lookup) is known
        statements.clear()
        with pytest.raises(MissingConstraintError):
            await model.as_unique(session, **lookup, policy=STRICT)
        assert statements == []


@before_sql
async def test_constraints_that_are_there(
    session: AsyncSession, statements: list[str]
) -> None:
    """A lookup is found to be covered once, and served after that."""
    for model, lookup in ((Word, WORD), (User, USER)):
        for first, second in (({}, {"policy": STRICT}), ({"policy": STRICT}, {})):
            session.info.clear()
            known = await model.as_unique(session, **lookup, **first)
            statements.clear()
            for more in (second, STRICT and {"policy": STRICT}):
                assert await model.as_unique(session, **lookup, **more) is known
            assert statements == []


@before_sql
async def test_parents(sessions: Sessions) -> None:
    """A parent that is not in the session is refused, also if it was."""
    async with sessions(expire_on_commit=False) as session, sessions() as other:
        word = await Word.as_unique(session, **WORD)
        form = await Form.as_unique(session, word=word, case="plural")
        await session.commit()
        elsewhere = await Word.as_unique(other, **WORD)
        assert await Form.as_unique(session, word=word, case="plural") is form
        session.expunge(word)
        for parent in (word, elsewhere):
            with pytest.raises(ValueError, match="not in this session"):
                await Form.as_unique(session, word=parent, case="plural")


@before_sql
async def test_a_parent_that_is_pending(
    session: AsyncSession, statements: list[str]
) -> None:
    """A pending parent has no key to remember yet."""
    word = Word(text="sun")
    session.add(word)
    form = await Form.as_unique(session, word=word, case="plural")
    assert await Form.as_unique(session, word=word, case="plural") is form
    statements.clear()
    assert await Form.as_unique(session, word=word, case="plural") is form
    assert statements == []


async def _later(_: Any = None, **lookup: Any) -> Any:
    return lookup["name"]


def _fail(_: Any = None, **_lookup: Any) -> Any:
    msg = "not a name"
    raise LookupError(msg)


@pytest.mark.parametrize(
    ("method", "function", "error", "says"),
    [
        ("unique_hash", _later, TypeError, "unique_hash.* await what it needs before"),
        ("unique_filter", _later, TypeError, "unique_filter.* await what it needs"),
        ("unique_hash", _fail, LookupError, "not a name"),
        ("unique_filter", _fail, LookupError, "not a name"),
        (
            "unique_hash",
            lambda **_: ["a"],
            TypeError,
            "a list without a hash; ret",
        ),
        (
            "unique_hash",
            lambda **_: ("a", {}),
            TypeError,
            "d a tuple without a hash",
        ),
    ],
)
@before_sql
async def test_own_methods_that_fail(
    session: AsyncSession,
    statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    function: Any,
    error: type[Exception],
    says: str,
) -> None:
    """A hash or a filter that does not do its work fails the call."""
    monkeypatch.setattr(Hashed, method, function)
    with pytest.raises(error, match=says):
        await Hashed.as_unique(session, name="a")
    assert statements == []


@pytest.mark.filterwarnings("ignore::async_goc.exceptions.MissingConstraintWarning")
@before_sql
async def test_a_hash_that_is_none(
    session: AsyncSession, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a hash, each call asks the database."""

    def none(**_: Any) -> Hashable:
        return None

    monkeypatch.setattr(Hashed, "unique_hash", none)
    first = await Hashed.as_unique(session, name="a", policy=Policy(locks=None))
    statements.clear()
    assert await Hashed.as_unique(session, name="b") is not first
    assert await Hashed.as_unique(session, name="a") is first
    assert statements.count("SELECT") >= 2
