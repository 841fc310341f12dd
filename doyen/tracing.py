"""Spans of OpenTelemetry around the steps of an answer; nothing at all until `start` was called.

Knows no exporter: the usual OTEL_… variables say where spans go.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from doyen.errors import UsageError

EXTRA = "pip install 'doyen[tracing]'"
_tracer: Any = None


def start() -> bool:
    """Have spans recorded, if OpenTelemetry is set up here or its variables say where to; return whether they are.

    Raises:
        UsageError: the variables say so, and the exporter is not installed.
    """
    global _tracer
    asked = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    try:
        from opentelemetry import trace
    except ImportError:
        if asked:
            raise UsageError("OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not here", hint=EXTRA) from None
        return False
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        if not asked:
            return False
        _export(trace)
    _tracer = trace.get_tracer("doyen")
    return True


def _export(trace: Any) -> None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise UsageError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the exporter of OpenTelemetry is not here", hint=EXTRA
        ) from None
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "doyen"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def stop() -> None:
    """Send what is recorded, and record no more."""
    global _tracer
    if _tracer is not None:
        from opentelemetry import trace

        _tracer = None
        if hasattr(provider := trace.get_tracer_provider(), "force_flush"):
            provider.force_flush()


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[None]:
    """Record what happens within as a span, its attributes prefixed `doyen.`; an error is noted in it."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, attributes={f"doyen.{k}": v for k, v in attributes.items()}):
        yield


def note(**attributes: str | int | float | bool) -> None:
    """Add attributes to the span that is open."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().set_attributes({f"doyen.{k}": v for k, v in attributes.items()})


@contextmanager
def following(headers: Mapping[str, str]) -> Iterator[None]:
    """Let the spans within belong to the trace that a request's `traceparent` names, if it does."""
    if _tracer is None:
        yield
        return
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(dict(headers)))
    try:
        yield
    finally:
        context.detach(token)
