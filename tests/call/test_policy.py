"""A policy is a value: it checks its fields, and a session may have one of its own."""

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from backends import Sessions, before_sql, by_savepoint, on_sqlite
from models import Tag
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from words import Word

from async_goc import (
    DEFAULT_POLICY,
    Policy,
    Stats,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    update_or_create,
    update_or_create_many,
)

KEY = "async_goc.policy"
Verb = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (TypeError, "attempts", [1.5, True, "3", None, Decimal(3), Stats()]),
        (ValueError, "attempts", [0, -1]),
        (TypeError, "wait_timeout", ["1", True, 1j, Decimal(1), Fraction(1), []]),
        (ValueError, "wait_timeout", [-1, -0.1, float("nan"), float("-inf"), 10**400]),
        (TypeError, "lock_timeout", ["1", True, Decimal(1)]),
        (ValueError, "lock_timeout", [-1, float("nan"), 10**400]),
        (TypeError, "advisory_lock", [0, 1, None, "yes"]),
        (TypeError, "observer", [5, "print", []]),
        (TypeError, "locks", ["none", True, {}]),
        (TypeError, "namespace", [[], {}, ([],)]),
        (ValueError, "strategy", ["fast", None, 1, []]),
        (ValueError, "hold", ["forever", None, True]),
        (ValueError, "missing_constraint", ["no", None, False]),
    ],
)
def test_policies_are_checked(
    kind: type[Exception], name: str, values: list[Any]
) -> None:
    """A value of the wrong type, or out of its range, says what to give."""
    for value in values:
        is_type = kind is TypeError
        shown = f"of type {type(value).__name__}" if is_type else repr(value)
        with pytest.raises(kind, match=f"^{re.escape(f'{name} is {shown}; give ')}"):
            Policy(**{name: value})


@pytest.mark.parametrize(
    "values",
    [
        {"wait_timeout": 0},
        {"wait_timeout": float("inf")},
        {"wait_timeout": None, "locks": None, "observer": None, "lock_timeout": None},
        {"lock_timeout": 0, "advisory_lock": True},
        {"attempts": 1, "observer": print, "namespace": (1, "a")},
    ],
)
def test_policies_take_what_makes_sense(values: dict[str, Any]) -> None:
    """The ends of each range belong to it."""
    policy = Policy(**values)
    assert {name: getattr(policy, name) for name in values} == values


async def one(session: Any, **given: Any) -> None:
    await get_or_create(session, Tag, name="one", **given)


async def update(session: Any, **given: Any) -> None:
    await update_or_create(session, Tag, name="update", **given)


async def many(session: Any, **given: Any) -> None:
    await get_or_create_many(session, Tag, ["many"], key="name", **given)


async def ids(session: Any, **given: Any) -> None:
    await get_or_create_ids(session, Tag, ["ids"], key="name", **given)


async def update_many(session: Any, **given: Any) -> None:
    await update_or_create_many(session, Tag, [{"name": "many"}], key="name", **given)


async def unique(session: Any, **given: Any) -> None:
    await Word.as_unique(session, text="unique", **given)


each_verb = pytest.mark.parametrize(
    "verb", [one, update, many, ids, update_many, unique]
)


@each_verb
@on_sqlite
async def test_policy_of_the_session(engine: AsyncEngine, verb: Verb) -> None:
    """A call without a policy of its own takes its session's."""
    stats, own = Stats(), Stats()
    sessions = async_sessionmaker(engine, info={KEY: Policy(observer=stats)})
    async with sessions() as session:
        await verb(session)
        assert sum(stats.counts.values()) == 1
        await verb(session, policy=None)
        assert sum(stats.counts.values()) == 2
        await verb(session, policy=Policy(observer=own))
        await verb(session, policy=DEFAULT_POLICY)
    assert sum(stats.counts.values()) == 2
    assert sum(own.counts.values()) == 1
    scoped = async_scoped_session(sessions, lambda: 1)
    await verb(scoped)
    await scoped.close()
    assert sum(stats.counts.values()) == 3


@each_verb
@before_sql
async def test_no_policy_of_the_session(
    sessions: Sessions, statements: list[str], verb: Verb
) -> None:
    """What is no policy is refused, with the name of the place where it was found."""
    for wrong in (5, None, Policy, "savepoint", {"attempts": 5}):
        async with sessions(info={KEY: wrong}) as session:
            with pytest.raises(TypeError) as raised:
                await verb(session)
        assert str(raised.value).startswith(f"session.info['{KEY}'] is {wrong!r}; give")
    assert statements == []


@on_sqlite
@by_savepoint
async def test_policies_are_not_given_by_value(session: AsyncSession) -> None:
    """What is given as a policy, and is none, may have been a column's value."""
    wrong: Any = "strict"
    with pytest.raises(TypeError, match=r"Tag\.policy == value"):
        await get_or_create(session, Tag, policy=wrong)
