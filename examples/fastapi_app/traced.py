"""Print the trace of one request to the service: a line for each span.

    python examples/fastapi_app/traced.py

A real service hands its spans to OpenTelemetry's exporter, instead of to the one below,
which keeps them in memory; the rest is the same.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from app import app
from database import lifespan
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import set_tracer_provider

REQUESTS = (
    ("ann@example.com", "/heroes/x-men/storm?tags=white"),
    ("bob@example.com", "/heroes/avengers/hulk?tags=green&tags=strong"),
)
SHOWN = ("http.status_code", "async_goc.outcome", "async_goc.rows", "async_goc.lane")


async def trace() -> Sequence[ReadableSpan]:
    """Return the spans of the second PUT; the first has to compile its statements."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    async with lifespan(app) as state:
        engine = state["sessions"].kw["bind"].sync_engine
        SQLAlchemyInstrumentor().instrument(engine=engine, skip_dep_check=True)

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": state}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(served), base_url="http://heroes"
        ) as client:
            for user, path in REQUESTS:
                exporter.clear()
                await client.put(path, headers={"user": user})
    return exporter.get_finished_spans()


def tree(
    spans: Sequence[ReadableSpan], parent: int | None = None, indent: str = ""
) -> Iterator[str]:
    """Yield a line for each span, below the one that it is part of."""
    below = [s for s in spans if (s.parent.span_id if s.parent else None) == parent]
    below.sort(key=lambda span: span.start_time or 0)
    for span in below:
        branch, stem = ("└─ ", "   ") if span is below[-1] else ("├─ ", "│  ")
        if parent is None:
            branch = stem = ""
        name = f"{indent}{branch}{span.name}"
        took = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
        known = span.attributes or {}
        details = " ".join(str(known[name]) for name in SHOWN if name in known)
        yield f"{name:30}{took:6.1f} ms  {span.kind.name:8}  {details}".rstrip()
        yield from tree(spans, span.context.span_id, indent + stem)


if __name__ == "__main__":
    print("\n".join(tree(asyncio.run(trace()))))
