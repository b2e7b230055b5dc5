"""Trace and time calls with OpenTelemetry; needs the extra ``otel``."""

from contextvars import ContextVar, Token
from time import time_ns
from typing import Any, Final, NamedTuple

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from . import __version__
from ._call import Event
from ._databases import code_of

_NAME: Final = "async_goc"
# Seconds: those that OpenTelemetry's conventions advise for a database's operations.
_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
Attributes = dict[str, str | int | float]

# A call that the garbage collector closes ends in another context than it began in.
# What is current there is none of the call's business, and OpenTelemetry would log an
# error. It makes its context current by a context variable, as this one is set: where
# this one can be reset, that one can, too.
_here: ContextVar[None] = ContextVar("async_goc_here")


class _Started(NamedTuple):
    """A span that is current."""

    span: trace.Span
    attached: Token[Context]
    here: Token[None]


class Tracing:
    """An observer that makes a span of each call, and measures how long calls take.

    The span, ``get_or_create Tag`` for example, is current during the call, so that the
    spans of what the call sends (of an instrumented driver, or of SQLAlchemy's
    instrumentation) become its children. Its kind is INTERNAL, because theirs is
    CLIENT. It begins as a child of what is current where the call is made.

    The attributes are those of OpenTelemetry's conventions for databases, as far as
    they fit (``db.system.name``, ``db.operation.name``, ``db.collection.name``, and
    after an error ``error.type`` and ``db.response.status_code``), and
    ``async_goc.outcome``, ``.strategy``, ``.attempts``, ``.waited`` (seconds),
    ``.rows``, ``.created`` and, for a creator's calls, ``.lane``. No value of a row is
    among them, nor any message that may have one in it.

    There are two metrics, by operation, collection, database and outcome: the histogram
    ``async_goc.duration`` (seconds), and the counter ``async_goc.calls``. (The
    histogram is not ``db.client.operation.duration``, to which a driver's
    instrumentation adds each statement of the call.)

    Example:
        >>> policy = Policy(observer=Tracing())
        >>> sessions = async_sessionmaker(engine, info={"async_goc.policy": policy})

    Args:
        tracer_provider: Makes the spans. ``None``: OpenTelemetry's global one.
        meter_provider: Makes the metrics. ``None``: OpenTelemetry's global one.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        meter = metrics.get_meter(_NAME, __version__, meter_provider)
        self._duration = meter.create_histogram(
            "async_goc.duration",
            unit="s",
            description="Duration of calls.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self._calls = meter.create_counter(
            "async_goc.calls", unit="{call}", description="Calls that have ended."
        )

    def started(self, verb: str, model: type[object]) -> object:
        """Begin a span, and make it the current one."""
        span = self._span(verb, model)
        attached = attach(trace.set_span_in_context(span))
        return _Started(span, attached, _here.set(None))

    def __call__(self, event: Event, /) -> None:
        """End the span; count and measure the call."""
        token = event.token
        if isinstance(token, _Started):
            self._end(token.span, event)
            _leave(token)
        else:
            # It is told of only now: an attempt at a transaction, which is run again.
            began = time_ns() - round(event.elapsed * 1e9)
            self._end(self._span(event.verb, event.model, began), event)

    def _span(
        self, verb: str, model: type[object], start_time: int | None = None
    ) -> trace.Span:
        name = verb if model is object else f"{verb} {model.__name__}"
        attributes = _subject(verb, model)
        return self._tracer.start_span(
            name, attributes=attributes, start_time=start_time
        )

    def _end(self, span: trace.Span, event: Event) -> None:
        common = _ending(event)
        if span.is_recording():
            span.set_attributes(common | _details(event))
            if event.error is not None:
                # Its message may have values in it.
                span.set_status(trace.StatusCode.ERROR)
        common |= _subject(event.verb, event.model)
        # Before the span ends, as an example of which the measurement may be kept.
        self._duration.record(event.elapsed, common)
        self._calls.add(1, common)
        span.end()


def _leave(started: _Started) -> None:
    try:
        _here.reset(started.here)
    except ValueError:
        return
    detach(started.attached)


def _subject(verb: str, model: type[object]) -> Attributes:
    """Return what is known before the call."""
    mapper: Any = inspect(model, raiseerr=False)
    # A model may be mapped to a join, say, which has no name.
    table: str | None = getattr(getattr(mapper, "local_table", None), "fullname", None)
    known: Attributes = {"db.operation.name": verb}
    return known if table is None else known | {"db.collection.name": table}


def _ending(event: Event) -> Attributes:
    """Return how the call has ended, in words of which there are few."""
    ending: Attributes = {"async_goc.outcome": event.outcome.value}
    if event.database is not None:
        ending["db.system.name"] = event.database
    error = event.error
    if error is not None:
        kind = type(error)
        is_builtin = kind.__module__ == "builtins"
        prefix = "" if is_builtin else f"{kind.__module__}."
        ending["error.type"] = f"{prefix}{kind.__qualname__}"
        code = code_of(error) if isinstance(error, DBAPIError) else None
        if code is not None:
            ending["db.response.status_code"] = str(code)
    return ending


def _details(event: Event) -> Attributes:
    """Return what is told of each call, but not of all together."""
    details: Attributes = {
        "async_goc.strategy": event.strategy,
        "async_goc.attempts": event.attempts,
        "async_goc.waited": event.waited,
        "async_goc.rows": event.rows,
        "async_goc.created": event.created,
    }
    return details if event.lane is None else details | {"async_goc.lane": event.lane}
