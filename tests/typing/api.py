"""Checked by the type checkers, never run."""

from typing import Any, assert_type

from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, undefer

import async_goc
from async_goc import (
    DEFAULT_POLICY,
    Batch,
    Event,
    GetOrCreator,
    KeyedLocks,
    LockStatistics,
    Observer,
    Outcome,
    Policy,
    Stats,
    UniqueMixin,
    exceptions,
    get_or_create,
    get_or_create_ids,
    get_or_create_many,
    observers,
    run_in_transaction,
    sqlite,
    update_or_create,
    update_or_create_many,
)
from async_goc.checks import Code, Finding, Severity, check
from async_goc.otel import Tracing
from async_goc.prometheus import Metrics
from async_goc.testing import (
    assert_nothing_held,
    race,
    record,
    rival,
    rolled_back,
)


class Base(DeclarativeBase):
    pass


class Tag(UniqueMixin, Base):
    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    colour: Mapped[str | None]
    is_active: Mapped[bool]


def count(event: Event, /) -> None:
    assert_type(async_goc.__version__, str)
    assert_type(event.outcome, Outcome)
    assert_type(event.error, BaseException | None)
    assert_type(event.lane, str | None)
    assert_type(event.rows, int)
    assert_type(event.created, int)
    assert_type(event.database, str | None)
    assert_type(event.token, object)


async def colour() -> str:
    return "f00"


async def defaults() -> dict[str, object]:
    return {"colour": "f00"}


async def make(**values: object) -> Tag:
    return Tag(**values)


async def api(
    session: AsyncSession, scoped: async_scoped_session[AsyncSession]
) -> None:
    result = await get_or_create(session, Tag, name="red", defaults={"colour": "f00"})
    assert_type(result, tuple[Tag, bool])
    await get_or_create(scoped, Tag, func.lower(Tag.name) == "red", factory=make)
    await get_or_create(session, Tag, Tag.name == "red", Tag.colour.is_(None))
    await update_or_create(session, Tag, Tag.is_active, ~Tag.is_active, text("1 = 1"))
    await get_or_create(session, Tag, "red")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await get_or_create(session, Tag, name="red", defaults={Tag.colour: colour})
    await get_or_create(session, Tag, name="red", defaults=defaults)
    await get_or_create(
        session,
        Tag,
        name="red",
        factory=Tag,
        options=[undefer(Tag.colour)],
        with_for_update={"nowait": True},
        policy=Policy(attempts=5, observer=count),
    )
    await get_or_create(session, Tag, name="red", policy=None)
    await update_or_create(session, Tag, name="red", policy=None)
    await get_or_create_many(session, Tag, ["red"], key="name", policy=None)
    await update_or_create_many(session, Tag, [{"name": "red"}], policy=None)
    await Tag.as_unique(session, name="red", policy=None)
    await get_or_create(session, "Tag", name="red")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def values(engine: AsyncEngine, error: exceptions.UnknownFieldError) -> None:
    stats: Observer = Stats()
    assert_type(Stats()["hit"], int)
    assert_type(Policy(observer=stats) == DEFAULT_POLICY, bool)
    several = observers(stats, count, Tracing(), Metrics())
    assert_type(Policy(observer=several).observer, Observer | None)
    locks = KeyedLocks(known_keys=10)
    assert_type(locks.statistics(), LockStatistics)
    assert_type(locks.statistics().held, int)
    brief = Policy(locks=locks, hold="call", wait_timeout=None, namespace="tenant")
    assert_type(brief.locks, KeyedLocks | None)
    assert_type(sqlite.configure(engine, busy_timeout=1), AsyncEngine)
    assert_type(sqlite.reading(engine), AsyncEngine)
    assert_type(error.matches, tuple[str, ...])
    assert_type(error.fields, tuple[str, ...])
    unknown = exceptions.OutcomeUnknownError("COMMIT", 2)
    assert_type((unknown.what, unknown.attempts), tuple[str, int])
    assert_type(unknown.is_partial, bool)
    timeout = exceptions.RivalTimeoutError(Tag, ["name"], 0.3)
    assert_type((timeout.lookup, timeout.lock_timeout), tuple[tuple[str, ...], float])
    assert_type(exceptions.IsolationError(Tag, ["name"], "serializable").level, str)
    assert_type(Policy(lock_timeout=1, advisory_lock=True).lock_timeout, float | None)


async def other_verbs(session: AsyncSession) -> None:
    result = await update_or_create(
        session, Tag, name="red", defaults={"colour": "f00"}, create_defaults={}
    )
    assert_type(result, tuple[Tag, bool])
    rows = [{"name": "red"}, {"name": "blue"}]
    many = await get_or_create_many(session, Tag, rows, key="name", defaults=defaults)
    assert_type(many, list[tuple[Tag, bool]])
    many = await update_or_create_many(
        session, Tag, iter(rows), key=["name"], update=["colour"], chunk_size=10
    )
    assert_type(many, list[tuple[Tag, bool]])
    assert_type(await Tag.as_unique(session, name="red"), Tag)
    ids = await get_or_create_ids(
        session, Tag, ["red"], key="name", defaults=defaults, policy=None, chunk_size=10
    )
    assert_type(ids, list[tuple[Any, bool]])
    await get_or_create_ids(session, "Tag", rows)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class OwnSession(AsyncSession):
    pass


async def rename(session: AsyncSession, name: str, colour: str | None = None) -> Tag:
    tag, _ = await get_or_create(session, Tag, name=name)
    tag.colour = colour
    return tag


async def tell(session: OwnSession) -> None:
    pass


async def own_transactions(
    sessions: async_sessionmaker[AsyncSession], own: async_sessionmaker[OwnSession]
) -> None:
    assert_type(await run_in_transaction(sessions, rename, "red", "f00"), Tag)
    assert_type(await run_in_transaction(own, rename, "red", attempts=9), Tag)
    await run_in_transaction(own, tell, is_idempotent=True)
    await run_in_transaction(sessions, tell)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run_in_transaction(sessions, rename, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run_in_transaction(sessions, rename)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType,reportCallIssue]


async def creators(sessions: async_sessionmaker[AsyncSession]) -> None:
    batch = Batch(max_size=100, max_delay=0.1)
    assert_type((batch.max_size, batch.max_delay), tuple[int, float])
    GetOrCreator(sessions, batch=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    policy = Policy(observer=count)
    async with GetOrCreator(
        sessions, policy=policy, attempts=9, batch=batch
    ) as creator:
        assert_type(creator, GetOrCreator)
        one = await creator.get_or_create(Tag, name="red", defaults={"colour": colour})
        assert_type(one, tuple[Tag, bool])
        one = await creator.get_or_create(
            Tag,
            func.lower(Tag.name) == "red",
            defaults=defaults,
            factory=make,
            options=[undefer(Tag.colour)],
            with_for_update=True,
            policy=None,
        )
        assert_type(one, tuple[Tag, bool])
        one = await creator.update_or_create(
            Tag, Tag.is_active, name="red", defaults=defaults, create_defaults={}
        )
        assert_type(one, tuple[Tag, bool])
        many = await creator.get_or_create_many(
            Tag, ["red"], key="name", defaults=defaults, policy=Policy(attempts=1)
        )
        assert_type(many, list[tuple[Tag, bool]])
        many = await creator.update_or_create_many(
            Tag, iter([{"name": "red"}]), key=["name"], update=["colour"], chunk_size=10
        )
        assert_type(many, list[tuple[Tag, bool]])
        ids = await creator.get_or_create_ids(Tag, ["red"], key="name", policy=None)
        assert_type(ids, list[tuple[Any, bool]])
        await creator.get_or_create("Tag", name="red")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await creator.get_or_create(Tag, "red")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await creator.aclose(), None)


async def checking(engine: AsyncEngine) -> None:
    for models in (Base.metadata, Base.registry, Tag):
        await check(engine, models)
    findings = await check(engine, Base)
    assert_type(findings, list[Finding])
    finding = findings[0]
    assert_type(finding.code, Code)
    assert_type(finding.severity, Severity)
    assert_type(finding.model, str | None)
    assert_type((finding.message, finding.remedy), tuple[str, str])
    await check(engine.sync_engine, Base)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await check(engine, "Base")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def tests(engine: AsyncEngine) -> None:
    async def call() -> int:
        return 1

    async with rolled_back(engine) as sessions:
        assert_type(sessions, async_sessionmaker[AsyncSession])
        async with rival(sessions, Tag, name="a"):
            assert_type(await race(call, n=2), list[int | BaseException])
    with record() as events:
        assert_type(events, list[Event])
    assert_type(assert_nothing_held(), None)
