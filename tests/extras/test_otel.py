"""What OpenTelemetry's own SDK is told of calls."""

import asyncio
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import creators
import pytest
from backends import by_savepoint, on_sqlite
from models import Author, Tag
from opentelemetry import trace
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm.exc import UnmappedClassError
from waiting import until

from async_goc import (
    GetOrCreator,
    Policy,
    exceptions,
    get_or_create,
    get_or_create_many,
    run_in_transaction,
)
from async_goc.otel import Tracing


class Telemetry:
    """A tracer and a meter of the test's own, and what they are told."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])
        self.tracer = self.tracers.get_tracer("test")
        self.policy = Policy(observer=Tracing(self.tracers, self.meters))

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends."""
        return list(self.exporter.get_finished_spans())

    def tree(self, parent: ReadableSpan | None = None) -> list[Any]:
        """The names of the spans under one, each with those under it, in order."""
        wanted = None if parent is None else parent.context.span_id
        children = [
            span
            for span in sorted(self.spans, key=lambda span: span.start_time)
            if (None if span.parent is None else span.parent.span_id) == wanted
        ]
        return [(span.name, *self.tree(span)) for span in children]

    def points(self, name: str) -> list[Any]:
        """What was measured under that name."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    assert trace.get_current_span() is trace.INVALID_SPAN
    telemetry.meters.shutdown()


@pytest.fixture
def instrumented(engine: AsyncEngine, telemetry: Telemetry) -> Iterator[AsyncEngine]:
    """An engine whose statements SQLAlchemy's instrumentation makes spans of."""
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(
        engine=engine.sync_engine,
        tracer_provider=telemetry.tracers,
        meter_provider=telemetry.meters,
        skip_dep_check=True,
    )
    yield engine
    instrumentor.uninstrument()


async def test_statements_are_children(
    instrumented: AsyncEngine, telemetry: Telemetry
) -> None:
    """A call's span is a child of what is current, and the parent of its SQL."""
    async with AsyncSession(instrumented) as session:
        with telemetry.tracer.start_as_current_span("request"):
            for name in ("x", "x"):
                await get_or_create(session, Tag, name=name, policy=telemetry.policy)
            await session.commit()
    (request,) = telemetry.tree()
    miss, hit = [(n, *sql) for n, *sql in request[1:] if n == "get_or_create Tag"]
    words = [[name.split()[0] for (name,) in sql] for _, *sql in (miss, hit)]
    assert [word for word in words[0] if word in {"SELECT", "INSERT"}] == [
        "SELECT",
        "INSERT",
    ]
    assert words[1] == ["SELECT"]


@on_sqlite
@pytest.mark.parametrize("way", ["direct", "batch"])
async def test_a_creators_statements_are_children(
    instrumented: AsyncEngine, telemetry: Telemetry, way: str
) -> None:
    """An instrumented engine is not passed by, and each call has a span of its own."""
    creator = creators.make(instrumented, way, policy=telemetry.policy)
    with telemetry.tracer.start_as_current_span("request"):
        await asyncio.gather(
            *(creator.get_or_create(Tag, name=name) for name in ("x", "y"))
        )
    (request,) = telemetry.tree()
    calls = request[1:]
    assert [call[0] for call in calls] == ["get_or_create Tag"] * 2
    assert all({"SELECT", "INSERT"} <= {n.split()[0] for (n,) in c[1:]} for c in calls)
    lanes = [(span.attributes or {}).get("async_goc.lane") for span in telemetry.spans]
    assert lanes.count("session") == 2


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_the_short_way_is_seen_by_the_driver(
    engine: AsyncEngine, telemetry: Telemetry
) -> None:
    """An instrumented driver changes no call's way, and what it sends is seen."""
    instrumentor = AsyncPGInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracers)
    creator = creators.make(engine, policy=telemetry.policy)
    try:
        await creator.get_or_create(Tag, name="x")
        await creator.get_or_create(Tag, name="x")
    finally:
        instrumentor.uninstrument()
    calls = [call for call in telemetry.tree() if call[0] == "get_or_create Tag"]
    assert [len(call) > 1 for call in calls] == [True] * 2
    spans = [span.attributes or {} for span in telemetry.spans]
    lanes = [values.get("async_goc.lane") for values in spans]
    assert [lane for lane in lanes if lane] == ["driver"] * 2


@on_sqlite
@by_savepoint
async def test_attributes(session: AsyncSession, telemetry: Telemetry) -> None:
    """What was asked for and how it went, and no value."""
    how: Any = {"policy": telemetry.policy}
    await get_or_create(session, Tag, name="secret", **how)
    await get_or_create_many(session, Tag, ["secret", "b", "b"], key="name", **how)
    bad = {"colour": "bad"}
    with pytest.raises(IntegrityError):
        await get_or_create(session, Tag, name="secret 2", defaults=bad, **how)
    with pytest.raises(exceptions.UnknownFieldError):
        await get_or_create(session, Tag, nmae="secret 3", **how)
    common = {"db.system.name": "sqlite", "db.collection.name": "tag"}
    one = common | {"db.operation.name": "get_or_create", "async_goc.rows": 1}
    many = common | {"db.operation.name": "get_or_create_many", "async_goc.rows": 3}
    tried = {"async_goc.strategy": "savepoint", "async_goc.attempts": 1}
    tried |= {"async_goc.waited": 0.0}
    made = tried | {"async_goc.outcome": "created", "async_goc.created": 1}
    failed = tried | {"async_goc.outcome": "failed", "async_goc.created": 0}
    kind = "sqlalchemy.exc.IntegrityError"
    violated = {"error.type": kind, "db.response.status_code": "275"}
    unknown = {"error.type": "async_goc.exceptions.errors.UnknownFieldError"}
    assert [dict(span.attributes or {}) for span in telemetry.spans] == [
        one | made,
        many | made | {"async_goc.strategy": "native"},
        one | failed | violated,
        one | failed | unknown | {"async_goc.attempts": 0},
    ]
    ends = [span.status.status_code.name for span in telemetry.spans]
    assert ends == ["UNSET", "UNSET", "ERROR", "ERROR"]
    assert {span.kind for span in telemetry.spans} == {trace.SpanKind.INTERNAL}
    assert "secret" not in "".join(span.to_json() for span in telemetry.spans)


async def test_what_is_not_known(telemetry: Telemetry) -> None:
    """A session without a database, and a model without a table, are told of, too."""
    session = AsyncSession()
    for model in (Tag, Telemetry):
        with pytest.raises((exceptions.UnknownFieldError, UnmappedClassError)):
            await get_or_create(session, model, nmae="x", policy=telemetry.policy)
    known = [(s.name, s.attributes or {}) for s in telemetry.spans]
    assert [(name, values.get("db.collection.name")) for name, values in known] == [
        ("get_or_create Tag", "tag"),
        ("get_or_create Telemetry", None),
    ]
    assert not any("db.system.name" in values for _, values in known)


@on_sqlite
@by_savepoint
async def test_metrics(session: AsyncSession, telemetry: Telemetry) -> None:
    """Calls are counted, and measured in seconds, by how they ended."""
    for name in ("x", "y", "x"):
        await get_or_create(session, Tag, name=name, policy=telemetry.policy)
    names = ("async_goc.calls", "async_goc.duration")
    calls, durations = (telemetry.points(name) for name in names)
    outcome = "async_goc.outcome"
    assert {p.attributes[outcome]: p.value for p in calls} == {"created": 2, "hit": 1}
    assert {p.attributes[outcome]: p.count for p in durations} == {
        "created": 2,
        "hit": 1,
    }
    assert durations[0].attributes == {
        "db.system.name": "sqlite",
        "db.operation.name": "get_or_create",
        "db.collection.name": "tag",
        outcome: "created",
    }
    assert 0 < durations[0].sum < 60


@on_sqlite
async def test_calls_inside_a_call(session: AsyncSession, telemetry: Telemetry) -> None:
    """What a function of the caller's asks for is a child of the call it is for."""
    policy = telemetry.policy

    async def colour() -> str:
        author, _ = await get_or_create(session, Author, name="blue", policy=policy)
        return author.name

    defaults = {"colour": colour}
    await get_or_create(session, Tag, name="x", defaults=defaults, policy=policy)
    assert telemetry.tree() == [("get_or_create Tag", ("get_or_create Author",))]


@pytest.mark.parametrize("backend", ["postgresql+asyncpg"], indirect=True)
async def test_a_transaction_that_is_run_again(
    engine: AsyncEngine, telemetry: Telemetry
) -> None:
    """An attempt that failed has a span of the time that it took."""
    sessions = async_sessionmaker(engine, info={"async_goc.policy": telemetry.policy})
    statements = ["SELECT 1", "DO $$ BEGIN RAISE 'no' USING ERRCODE = '40001'; END $$"]

    async def work(session: AsyncSession) -> None:
        await session.execute(text(statements.pop()))

    with telemetry.tracer.start_as_current_span("request"):
        await run_in_transaction(sessions, work)
    assert telemetry.tree() == [("request", ("run_in_transaction",))]
    attempt, request = telemetry.spans
    assert request.start_time <= attempt.start_time < attempt.end_time
    assert attempt.attributes is not None
    assert attempt.attributes["db.response.status_code"] == "40001"


@on_sqlite
async def test_a_call_that_is_cancelled(
    engine: AsyncEngine, telemetry: Telemetry
) -> None:
    """Its span ends with it, in the same task."""
    creator = GetOrCreator(async_sessionmaker(engine), policy=telemetry.policy)
    door = creators.Door()

    async def call() -> None:
        with telemetry.tracer.start_as_current_span("request") as request:
            with pytest.raises(asyncio.CancelledError):
                await creator.get_or_create(Tag, name="x", defaults=door)
            assert trace.get_current_span() is request

    task = asyncio.create_task(call())
    await until(lambda: door.came)
    task.cancel()
    await task
    assert telemetry.tree() == [("request", ("get_or_create Tag",))]
    assert telemetry.spans[0].status.status_code is trace.StatusCode.ERROR


@on_sqlite
@pytest.mark.parametrize("is_inside", [False, True])
async def test_a_call_that_ends_in_another_context(
    engine: AsyncEngine,
    telemetry: Telemetry,
    caplog: pytest.LogCaptureFixture,
    is_inside: bool,
) -> None:
    """The garbage collector closes it: its span ends, and nothing else is changed.

    Fails without `reset` in `_leave`.
    """
    creator = GetOrCreator(async_sessionmaker(engine))
    door = creators.Door()
    leader = asyncio.create_task(creator.get_or_create(Tag, name="x", defaults=door))
    await until(lambda: door.came)
    waiter: Any = creator.get_or_create(Tag, name="x", policy=telemetry.policy)
    own = copy_context()
    own.run(waiter.send, None)

    def close() -> None:
        with telemetry.tracer.start_as_current_span("other") as other:
            waiter.close()
            assert trace.get_current_span() is other

    # A task that began in the call has a copy of its context.
    (own.copy() if is_inside else copy_context()).run(close)
    door.open()
    await leader
    assert [record.getMessage() for record in caplog.records] == []
    call, other = telemetry.spans
    assert call.name == "get_or_create Tag"
    assert (other.parent == call.context) is is_inside


async def test_the_global_providers() -> None:
    """Without providers, they are OpenTelemetry's own; without an SDK, all is void."""
    call = get_or_create(
        AsyncSession(), Tag, nmae="x", policy=Policy(observer=Tracing())
    )
    with pytest.raises(exceptions.UnknownFieldError):
        await call
    assert trace.get_current_span() is trace.INVALID_SPAN
