"""One call in each way there is: in the caller's session, or by a GetOrCreator."""

import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, class_mapper
from told import take, told, told_error

import async_goc
from async_goc import Batch, Event, GetOrCreator, KeyedLocks, Policy
from async_goc.exceptions import MissingConstraintWarning

# How often each case is called: the first call creates, if nothing is there, and the
# next one finds.
TWICE = 2
# The driver whose direct lane has the least to do with SQLAlchemy.
ONE = ["postgresql+asyncpg"]
LANES = {"asyncpg": "driver", "psycopg": "cursor", "aiosqlite": "driver"}
BATCH = Batch(max_delay=0.001)
VERBS = [
    *("get_or_create", "update_or_create"),
    *("get_or_create_many", "update_or_create_many"),
]


class Caller:
    """The verbs, and what a case needs beside them.

    Attributes:
        called: What functions among the arguments were called.
        policy: To be varied by a case.
    """

    def __init__(self, verbs: Any, sessions: Any, policy: Policy) -> None:
        self.get_or_create, self.update_or_create, self.many, self.update_many = verbs
        self._sessions = sessions
        self.policy = policy
        self.called: list[str] = []

    async def load(self, model: type[Any], key: Any) -> Any:
        """A row to refer to: of the call's session, or of another, and detached."""
        if isinstance(self._sessions, AsyncSession):
            return await self._sessions.get_one(model, key)
        async with self._sessions() as session:
            return await session.get_one(model, key)

    def having(self, **policy: Any) -> Policy:
        return replace(self.policy, **policy)

    def function(self, value: Any, name: str = "function") -> Callable[..., Any]:
        """A function that returns the value, or what that makes of its arguments."""

        def function(**values: Any) -> Any:
            self.called.append(name)
            return value(**values) if isinstance(value, type) else value

        return function

    def coroutine(self, value: Any, name: str = "coroutine") -> Callable[..., Any]:
        function = self.function(value, name)

        async def coroutine(**values: Any) -> Any:
            return function(**values)

        return coroutine


Call = Callable[[Caller], Awaitable[Any]]


class Case(NamedTuple):
    """A call, the rows that are there before it, and which lane answers it, twice."""

    call: Call
    rows: Callable[[], Sequence[Any]] = list
    # Of the first call, and the second. "direct" stands for what the driver allows.
    lanes: tuple[str, str] = ("session", "session")
    # Whether the call is tried directly at all.
    is_tried: bool = False
    # Whether the values come back as others than they were given. A flush leaves those
    # on the object that it was given, until they are read anew.
    is_stored: bool = False


def direct(call: Call, rows: Any = list) -> Case:
    """It is answered past SQLAlchemy."""
    return Case(call, rows, ("direct", "direct"), is_tried=True)


def found(call: Call, rows: Any = list) -> Case:
    """It is created by a session, and found directly."""
    return Case(call, rows, ("session", "direct"), is_tried=True)


def either(call: Call, rows: Any = list) -> Case:
    """Databases and drivers differ in who answers it."""
    return Case(call, rows, ("any", "any"), is_tried=True, is_stored=True)


def tried(call: Call, rows: Any = list) -> Case:
    """A session answers what could not be answered directly."""
    return Case(call, rows, is_tried=True)


def each(*, backends: Sequence[str] = ONE, **kinds: Mapping[str, Case]) -> Any:
    """Parametrize a test; drivers matter only for what may go past SQLAlchemy."""
    cases = [
        pytest.param(backend, case, id=f"{backend}-{kind}-{name}")
        for kind, cases in kinds.items()
        for name, case in cases.items()
        for backend in (backends if case.is_tried else ONE)
    ]
    return pytest.mark.parametrize(("backend", "case"), cases, indirect=["backend"])


class Seen(NamedTuple):
    """What could be seen of a call."""

    results: list[Any]
    errors: list[Any]
    warned: list[Any]
    called: list[str]
    events: list[Any]
    stored: dict[str, Any]


def as_stored(results: list[Any], seen: list[Any]) -> list[Any]:
    """The results, where what was given may be replaced by what is found later."""
    if not len(results) == len(seen) == TWICE:
        return results
    (kind, (given, created)), (_, (found, _)) = results
    loaded = {
        name: value if value in (given[1][name], found[1].get(name)) else given[1][name]
        for name, value in seen[0][1][0][1].items()
        if name in given[1]
    }
    return [(kind, [(given[0], loaded, *given[2:]), created]), results[1]]


class Ways:
    """Runs cases in each way, each time on a database in the same state."""

    def __init__(self, engine: AsyncEngine, other: sa.Engine) -> None:
        self.engine = engine
        self.other = other
        # For the sessions; and what listeners of a test have heard.
        self.options: dict[str, Any] = {}
        self.heard: list[Any] = []

    async def compare(self, case: Case) -> Seen:
        """See the same in each way that there is for the case, and return that."""
        expected, _ = await self.see(case, self._in_session)
        ways: dict[str, Any] = {"direct": self.by_a_creator}
        if case.is_tried:
            ways["batch"] = partial(self.by_a_creator, batch=BATCH)
        if case.is_tried and self.engine.dialect.driver == "asyncpg":
            ways["session"] = self.by_a_session
        for name, way in ways.items():
            seen, lanes = await self.see(case, way)
            wanted = expected
            if case.is_stored and name != "session":
                wanted = expected._replace(
                    results=as_stored(expected.results, seen.results)
                )
            for part, one, other in zip(Seen._fields, wanted, seen, strict=True):
                assert one == other, f"{part} differ: {name}"
            allowed = self.lanes(case, name, len(lanes))
            assert case.lanes[0] == "any" or lanes == allowed, name
        return expected

    def lanes(self, case: Case, way: str, number: int) -> list[str]:
        """The lanes that the calls go by."""
        direct = "session" if way == "session" else LANES[self.engine.dialect.driver]
        lanes = [direct if lane == "direct" else lane for lane in case.lanes]
        return [*lanes, *(lanes[-1:] * number)][:number]

    async def see(self, case: Case, way: Any) -> tuple[Seen, list[str | None]]:
        """Call twice, or until it fails."""
        events: list[Event] = []
        policy = Policy(observer=events.append, locks=KeyedLocks())
        info = {"async_goc.policy": policy}
        sessions = async_sessionmaker(self.engine, info=info, **self.options)
        rows = case.rows()
        with Session(self.other, expire_on_commit=False) as session, session.begin():
            session.add_all(rows)
        seen = Seen([], [], [], [], [], {})
        call = way(sessions, policy)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(TWICE):
                try:
                    caller, result = await call(case)
                except Exception as error:  # noqa: BLE001 - it is compared
                    seen.errors.append(told_error(error))
                    break
                seen.results.append(result)
                seen.called.append(caller.called)
        for warning in caught:
            where = (warning.filename,)
            seen.warned.append((warning.category, str(warning.message), *where))
        seen.events.extend(
            (event.verb, event.model, event.outcome, type(event.error))
            for event in events
        )
        seen.called.append([*self.heard])
        self.heard.clear()
        self.forget(rows, events, seen)
        return seen, [event.lane for event in events]

    def forget(self, rows: Sequence[Any], events: Sequence[Event], seen: Seen) -> None:
        """Read what is stored, and delete it."""
        models = {*map(type, rows), *(event.model for event in events)}
        models = {model for model in models if sa.inspect(model, raiseerr=False)}
        with self.other.begin() as connection:
            seen.stored.update(take(connection, models))
        if any(issubclass(kind, MissingConstraintWarning) for kind, *_ in seen.warned):
            for model in models:
                vars(class_mapper(model)).pop("_async_goc", None)

    def _in_session(self, sessions: Any, policy: Policy) -> Any:
        async def call(case: Case) -> Any:
            async with sessions.begin() as session:
                functions = [partial(getattr(async_goc, v), session) for v in VERBS]
                caller = Caller(functions, session, policy)
                return caller, told(await case.call(caller))

        return call

    def by_a_creator(
        self, sessions: Any, policy: Policy, batch: Batch | None = None
    ) -> Any:
        creator = GetOrCreator(sessions, batch=batch)

        async def call(case: Case) -> Any:
            caller = Caller([getattr(creator, v) for v in VERBS], sessions, policy)
            result = await case.call(caller)
            pairs = result if isinstance(result, list) else [result]
            assert all(sa.inspect(row).detached for row, _ in pairs)
            return caller, told(result)

        return call

    def by_a_session(self, sessions: Any, policy: Policy) -> Any:
        """Somebody listens to the statements, so a session has to send them."""
        call = self.by_a_creator(sessions, policy)

        async def listen(case: Case) -> Any:
            heard = self.engine.sync_engine, "before_cursor_execute", lambda *_: None
            sa.event.listen(*heard)
            try:
                return await call(case)
            finally:
                sa.event.remove(*heard)

        return listen
